"""Stable Diffusion XL: facts of its published configuration."""

_base_ = ["./parts.py"]

architecture = dict(
    unet=dict(
        type="UNet2DConditionModel",
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    ),
    vae=dict(
        sample_size=1024,
        scaling_factor=0.13025,
    ),
    text_encoder={{_base_._clip_l}},
    text_encoder_2={{_base_._clip_big_g}},
    tokenizer=dict(type="clip", length=77),
    tokenizer_2=dict(type="clip", length=77),
    scheduler=dict(
        type="EulerDiscreteScheduler",
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    ),
)
