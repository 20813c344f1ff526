"""Pocket twin of Flux: 1.7 M parameters, three double and four single blocks, trained on generated scenes."""

custom_imports = dict(imports=["segscale.backbones.flux"])

type = "Flux"
weights = "pocket:pocket-flux"
text_tokens = 16
guidance = 1.0
method_defaults = dict(
    image_size=128,
    feature_size=16,
    timestep=300,
    reference_site="vit-block2",
    affinity_sites=("vit-block5",),
    affinity_order=1,
    heads="average",
    attention="joint",
    # The block that segments best alone, on the calibration scenes.
    grounding_sites=("vit-block1",),
)
# The block that localises best alone, on the calibration scenes.
presets = {
    "baseline": dict(text_sites=("vit-block1",)),
    "seg4diff": dict(steps=50, pixel_range="unit", shift_by="latent-channels"),
    "seg4diff-described": dict(steps=50),
}
sampling = dict(steps=20, guidance=3.0)
