"""PixArt-Sigma-XL-2 at 1024 px: facts of its published configuration."""

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
        type="AutoencoderKL",
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=1024,
        scaling_factor=0.13025,
    ),
    text_encoder=dict(
        type="T5EncoderModel",
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    ),
    tokenizer=dict(type="t5", length=512),
    scheduler=dict(type="DPMSolverMultistepScheduler", beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
)
