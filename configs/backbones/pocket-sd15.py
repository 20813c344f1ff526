"""Pocket twin of Stable Diffusion 1.5: 1.1 M parameters, trained on generated scenes."""

custom_imports = dict(imports=["segscale.backbones.stable_diffusion"])

type = "StableDiffusion"
weights = "pocket:pocket-sd15"
method_defaults = dict(
    image_size=64,
    feature_size=16,
    timestep=200,
    reference_site="up-level1-repeat0-vit-block0",
    affinity_sites=("up-level1-repeat0-vit-block0", "up-level1-repeat1-vit-block0"),
    affinity_order=1,
)
# By the rule of the published picks for SD 1.5: coarse levels, and the first stack of the level above on the way up.
presets = dict(
    baseline=dict(
        text_sites=(
            "down-level1-repeat0-vit-block0",
            "mid-vit-block0",
            "up-level0-repeat0-vit-block0",
            "up-level0-repeat1-vit-block0",
            "up-level1-repeat0-vit-block0",
        )
    )
)
sampling = dict(steps=20, guidance=3.0)
