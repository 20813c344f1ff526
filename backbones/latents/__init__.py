"""From a picture to a noised latent."""
