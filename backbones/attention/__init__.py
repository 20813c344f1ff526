"""How attention is asked for, observed and kept."""
