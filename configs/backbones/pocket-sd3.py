"""Pocket twin of Stable Diffusion 3: 2.0 M parameters, six joint blocks, trained on generated scenes."""

custom_imports = dict(imports=["segscale.backbones.sd3"])

type = "StableDiffusion3"
weights = "pocket:pocket-sd3"
t5_tokens = 16
with_t5 = False
method_defaults = dict(
    image_size=64,
    feature_size=16,
    timestep=110,
    reference_site="vit-block4",
    affinity_sites=("vit-block3", "vit-block4"),
    affinity_order=1,
    heads="average",
    attention="joint",
)
# The blocks that localise best alone, on the calibration scenes.
presets = dict(baseline=dict(text_sites=("vit-block4", "vit-block5")))
sampling = dict(steps=20, guidance=3.0)
