"""FLUX.1-dev: facts of its published configuration."""

_base_ = ["./parts.py"]

architecture = dict(
    transformer=dict(
        type="FluxTransformer2DModel",
        patch_size=1,
        in_channels=64,
        num_layers=19,
        num_single_layers=38,
        attention_head_dim=128,
        num_attention_heads=24,
        joint_attention_dim=4096,
        pooled_projection_dim=768,
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    ),
    vae=dict(
        latent_channels=16,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ),
    text_encoder={{_base_._clip_l}},
    text_encoder_2={{_base_._t5_xxl}},
    tokenizer=dict(type="clip", length=77),
    tokenizer_2=dict(type="t5", length=512),
    scheduler=dict(
        type="FlowMatchEulerDiscreteScheduler",
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    ),
)
