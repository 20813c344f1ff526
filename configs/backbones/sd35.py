"""Stable Diffusion 3.5 medium, 2.2 B parameters, 1024 px, with image-only attention beside the joint one."""

_base_ = ["./sd3.py"]

weights = "stabilityai/stable-diffusion-3.5-medium"
architecture = dict(
    transformer=dict(dual_attention_layers=tuple(range(13)), qk_norm="rms_norm", pos_embed_max_size=384)
)
sampling = dict(steps=40, guidance=4.5)
