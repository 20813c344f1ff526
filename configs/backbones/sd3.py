"""Stable Diffusion 3 medium, 2.0 B parameters, 1024 px."""

_base_ = ["../architectures/sd3.py"]
custom_imports = dict(imports=["segscale.backbones.sd3"])

type = "StableDiffusion3"
weights = "stabilityai/stable-diffusion-3-medium-diffusers"
t5_tokens = 77
with_t5 = False
# No paper gives vanilla or GoCA settings for SD3. Block 9 is where Seg4Diff (arXiv 2509.18096) finds text grounded
# best; affinity follows its neighbours. Timestep and averaged heads are GoCA's choice for the other model with joint
# attention: there a head's output carries pixels more than words, so what it adds says little about its words.
method_defaults = dict(
    image_size=1024,
    feature_size=64,
    timestep=150,
    reference_site="vit-block9",
    affinity_sites=("vit-block8", "vit-block9", "vit-block10"),
    affinity_order=2,
    heads="average",
    attention="joint",
    grounding_sites=("vit-block9",),
)
presets = dict(baseline=dict(text_sites=("vit-block8", "vit-block9", "vit-block10")))
# As many text columns as in its pipeline.
sampling = dict(steps=28, guidance=7.0, arguments=dict(t5_tokens=256))
