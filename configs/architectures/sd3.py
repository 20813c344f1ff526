"""Stable Diffusion 3 medium: facts of its published configuration."""

_base_ = ["./parts.py"]

architecture = dict(
    transformer=dict(
        type="SD3Transformer2DModel",
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        pos_embed_max_size=192,
    ),
    vae=dict(
        latent_channels=16,
        sample_size=1024,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ),
    text_encoder={{_base_._clip_l_projected}},
    text_encoder_2={{_base_._clip_big_g}},
    text_encoder_3={{_base_._t5_xxl}},
    tokenizer=dict(type="clip", length=77),
    tokenizer_2=dict(type="clip", length=77),
    tokenizer_3=dict(type="t5", length=512),
    scheduler=dict(type="FlowMatchEulerDiscreteScheduler", shift=3.0),
)
