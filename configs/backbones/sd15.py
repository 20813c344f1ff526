"""Stable Diffusion 1.5, 860 M parameters, 512 px."""

_base_ = ["../architectures/sd15.py"]
custom_imports = dict(imports=["segscale.backbones.stable_diffusion"])

type = "StableDiffusion"
weights = "stable-diffusion-v1-5/stable-diffusion-v1-5"
# Sites, timestep and order: GoCA's published settings (arXiv 2603.06178).
method_defaults = dict(
    image_size=512,
    feature_size=64,
    timestep=100,
    reference_site="up-level2-repeat1-vit-block0",
    affinity_sites=(
        "up-level3-repeat0-vit-block0",
        "up-level3-repeat1-vit-block0",
        "down-level0-repeat1-vit-block0",
    ),
    affinity_order=2,
)
presets = dict(
    baseline=dict(
        text_sites=(
            "down-level2-repeat0-vit-block0",
            "down-level2-repeat1-vit-block0",
            "mid-vit-block0",
            "up-level1-repeat0-vit-block0",
            "up-level1-repeat1-vit-block0",
            "up-level1-repeat2-vit-block0",
            "up-level2-repeat0-vit-block0",
            "up-level2-repeat1-vit-block0",
        )
    )
)
sampling = dict(steps=50, guidance=7.5)
