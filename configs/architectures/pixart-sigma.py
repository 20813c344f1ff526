"""PixArt-Sigma-XL-2 at 1024 px: facts of its published configuration."""

_base_ = ["./parts.py"]

architecture = dict(
    transformer=dict(
        type="PixArtTransformer2DModel",
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        sample_size=128,
        patch_size=2,
        cross_attention_dim=1152,
        caption_channels=4096,
        interpolation_scale=2,
        use_additional_conditions=False,
    ),
    vae=dict(
        sample_size=1024,
        scaling_factor=0.13025,
    ),
    text_encoder={{_base_._t5_xxl}},
    tokenizer=dict(type="t5", length=512),
    scheduler=dict(type="DPMSolverMultistepScheduler", beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
)
