"""Stable Diffusion 3.5 large, 8.1 B parameters, 1024 px."""

_base_ = ["./sd3.py"]

weights = "stabilityai/stable-diffusion-3.5-large"
architecture = dict(
    transformer=dict(num_layers=38, num_attention_heads=38, caption_projection_dim=2432, qk_norm="rms_norm")
)
# Block 9 of 24 is at the same depth as block 14 of 38.
method_defaults = dict(
    reference_site="vit-block14",
    affinity_sites=("vit-block13", "vit-block14", "vit-block15"),
    grounding_sites=("vit-block14",),
)
presets = dict(baseline=dict(text_sites=("vit-block13", "vit-block14", "vit-block15")))
sampling = dict(steps=28, guidance=3.5)
