"""Pocket twin that was taught to draw masks: Wan's transformer, 1.2 M parameters, T5 text."""

custom_imports = dict(imports=["segscale.backbones.wan"])

type = "WanMasks"
weights = "pocket:pocket-genmask"
text_tokens = 16
training = "masks"
method_defaults = dict(
    image_size=64,
    feature_size=16,
    timestep=200,
    reference_site="vit-block2",
    affinity_sites=("vit-block1", "vit-block2", "vit-block3"),
    affinity_order=1,
)
presets = dict(baseline=dict(text_sites=("vit-block1", "vit-block2", "vit-block3")))
sampling = dict(steps=20, guidance=3.0)
