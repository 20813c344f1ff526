"""Text-to-image diffusion models, read by their attention."""
