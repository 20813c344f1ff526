"""The twin that is taught to draw masks: Wan's transformer at a size that trains on a CPU in minutes."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

from ...datasets.pocket_pairs import RELATIONS
from ..wan_pictures import WanPicturePipeline
from . import text
from .architectures import SEED

NAME = "pocket-genmask"
LAYERS = 4


def build_direct_masks(vae: AutoencoderKL) -> WanPicturePipeline:
    """Build an untrained transformer with cross-attention to T5; its tokenizer also knows ``RELATIONS``."""
    tokenizer = text.t5_tokenizer(words=(*text.WORDS, *RELATIONS))
    torch.manual_seed(SEED)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=4,
        out_channels=4,
        text_dim=64,
        freq_dim=64,
        ffn_dim=512,
        num_layers=LAYERS,
        rope_max_seq_len=32,
    )
    return WanPicturePipeline(
        tokenizer=tokenizer,
        text_encoder=text.t5_encoder(tokenizer, 64, SEED),
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
