"""Small twins of the real models, trained on generated scenes."""
