"""From the words of a prompt to token columns."""
