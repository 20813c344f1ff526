"""Stable Diffusion XL base 1.0, 2.6 B parameters, 1024 px."""

_base_ = ["../architectures/sdxl.py"]
custom_imports = dict(imports=["segscale.backbones.sdxl"])

type = "StableDiffusionXL"
weights = "stabilityai/stable-diffusion-xl-base-1.0"
# Sites, timestep and order: GoCA's published settings (arXiv 2603.06178).
method_defaults = dict(
    image_size=1024,
    feature_size=64,
    timestep=100,
    reference_site="up-level1-repeat0-vit-block0",
    affinity_sites=(
        "up-level1-repeat0-vit-block0",
        "up-level1-repeat0-vit-block1",
        "up-level1-repeat1-vit-block0",
        "up-level1-repeat1-vit-block1",
        "up-level1-repeat2-vit-block0",
        "down-level1-repeat0-vit-block0",
        "down-level1-repeat0-vit-block1",
    ),
    affinity_order=2,
)
# No hand-picked sites are published for SDXL; by SD 1.5's rule they are the coarsest level and the first two stacks of
# the level above it, on the way up.
presets = dict(
    baseline=dict(
        text_sites=(
            *(f"down-level2-repeat{repeat}-vit-block{block}" for repeat in range(2) for block in range(10)),
            *(f"mid-vit-block{block}" for block in range(10)),
            *(f"up-level0-repeat{repeat}-vit-block{block}" for repeat in range(3) for block in range(10)),
            *(f"up-level1-repeat{repeat}-vit-block{block}" for repeat in range(2) for block in range(2)),
        )
    )
)
sampling = dict(steps=50, guidance=5.0)
