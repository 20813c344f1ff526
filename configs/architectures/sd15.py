"""Stable Diffusion 1.5: facts of its published configuration."""

_base_ = ["./parts.py"]

architecture = dict(
    unet=dict(
        type="UNet2DConditionModel",
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        cross_attention_dim=768,
        attention_head_dim=8,
    ),
    vae=dict(
        sample_size=512,
        scaling_factor=0.18215,
    ),
    text_encoder={{_base_._clip_l}},
    tokenizer=dict(type="clip", length=77),
    scheduler=dict(
        type="PNDMScheduler",
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    ),
)
