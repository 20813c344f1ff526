"""Pocket twin of PixArt-Sigma: 1.2 M parameters, T5 text, trained on generated scenes."""

custom_imports = dict(imports=["segscale.backbones.pixart"])

type = "PixArtSigma"
weights = "pocket:pocket-pixart-sigma"
text_tokens = 16
method_defaults = dict(
    image_size=64,
    feature_size=16,
    timestep=200,
    reference_site="vit-block3",
    affinity_sites=("vit-block2", "vit-block3", "vit-block4"),
    affinity_order=1,
)
presets = dict(baseline=dict(text_sites=("vit-block2", "vit-block3", "vit-block4")))
sampling = dict(steps=20, guidance=3.0)
