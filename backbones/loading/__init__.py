"""How weights are found, identified and loaded."""
