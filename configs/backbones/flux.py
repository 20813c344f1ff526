"""FLUX.1-dev, 11.9 B parameters, 1024 px, guidance-distilled."""

_base_ = ["../architectures/flux.py"]
custom_imports = dict(imports=["segscale.backbones.flux"])

type = "Flux"
weights = "black-forest-labs/FLUX.1-dev"
text_tokens = 512
guidance = 1.0
# Sites, timestep and order: GoCA's published settings (arXiv 2603.06178).
method_defaults = dict(
    image_size=1024,
    feature_size=64,
    timestep=150,
    reference_site="vit-block27",
    affinity_sites=("vit-block12", "vit-block18"),
    affinity_order=2,
    # Published; single blocks have no out projection of their own to weigh heads by.
    heads="average",
    attention="joint",
    # Seg4Diff publishes no block for Flux; this is the last double block, whose affinity GoCA uses too.
    grounding_sites=("vit-block18",),
)
# The published vanilla has hand-picked sites already, so the baseline is the same.
_picked = ("vit-block8", "vit-block28", "vit-block47")
# What Seg4Diff's code does to Flux by mistake is in its published reading alone.
presets = dict(
    {
        "seg4diff": dict(steps=50, pixel_range="unit", shift_by="latent-channels"),
        "seg4diff-described": dict(steps=50),
    },
    vanilla=dict(text_sites=_picked, affinity_sites=_picked),
    baseline=dict(text_sites=_picked, affinity_sites=_picked),
)
# Pictures are drawn at the embedded guidance of its pipeline, maps are read at that of GoCA.
sampling = dict(steps=28, guidance=1.0, arguments=dict(guidance=3.5))
