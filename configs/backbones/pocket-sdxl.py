"""Pocket twin of SDXL: 1.5 M parameters, two text encoders, trained on generated scenes."""

custom_imports = dict(imports=["segscale.backbones.sdxl"])

type = "StableDiffusionXL"
weights = "pocket:pocket-sdxl"
method_defaults = dict(
    image_size=64,
    feature_size=16,
    timestep=300,
    reference_site="up-level1-repeat0-vit-block0",
    affinity_sites=("up-level1-repeat0-vit-block0", "up-level1-repeat1-vit-block0"),
    affinity_order=1,
)
# By the rule of the published picks for SD 1.5: coarse levels, and the first stack of the level above on the way up.
presets = dict(
    baseline=dict(
        text_sites=(
            *(f"down-level1-repeat0-vit-block{block}" for block in range(2)),
            *(f"mid-vit-block{block}" for block in range(2)),
            *(f"up-level0-repeat{repeat}-vit-block{block}" for repeat in range(2) for block in range(2)),
            "up-level1-repeat0-vit-block0",
        )
    )
)
sampling = dict(steps=20, guidance=3.0)
