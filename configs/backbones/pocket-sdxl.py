"""Pocket twin of SDXL: 1.5 M parameters, two text encoders, trained on generated scenes."""

custom_imports = dict(imports=["segscale.backbones.sdxl"])

type = "StableDiffusionXL"
weights = "pocket:pocket-sdxl"
recommended = dict(
    image_size=64,
    feature_size=16,
    timestep=300,
    reference_site="up-level1-repeat0-vit-block0",
    affinity_sites=("up-level1-repeat0-vit-block0", "up-level1-repeat1-vit-block0"),
    affinity_order=1,
)
