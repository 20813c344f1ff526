"""PixArt-Sigma-XL-2 at 512 px; its repository holds the transformer alone."""

_base_ = ["./pixart-sigma.py"]

denoiser_weights = "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"
architecture = dict(transformer=dict(sample_size=64, interpolation_scale=1))
method_defaults = dict(image_size=512, feature_size=32)
