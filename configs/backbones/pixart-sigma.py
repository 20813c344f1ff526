"""PixArt-Sigma-XL-2, 0.6 B parameters, 1024 px."""

_base_ = ["../architectures/pixart-sigma.py"]
custom_imports = dict(imports=["segscale.backbones.pixart"])

type = "PixArtSigma"
weights = "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"
text_tokens = 300
# Sites, timestep and order: GoCA's published settings (arXiv 2603.06178).
method_defaults = dict(
    image_size=1024,
    feature_size=64,
    timestep=100,
    reference_site="vit-block13",
    affinity_sites=tuple(f"vit-block{i}" for i in range(10, 18)),
    affinity_order=5,
)
# The published vanilla has hand-picked sites already, so the baseline is the same.
presets = dict(
    vanilla=dict(text_sites=tuple(f"vit-block{i}" for i in range(10, 18))),
    baseline=dict(text_sites=tuple(f"vit-block{i}" for i in range(10, 18))),
)
sampling = dict(steps=20, guidance=4.5)
