"""Tokenizers and frozen text encoders of the pocket twins.

One token per object and ground; unknown words fall apart into letters. The encoders keep their random
initialisation: token vectors stay apart, and meaning cannot leak into commas or the end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from ...datasets.pocket import GROUNDS, OBJECTS
from ..loading import tokenizers

LENGTH = 16
# Merges rank in this order: a word inside another one ("and" in "sand") comes after it.
WORDS = (*GROUNDS, *OBJECTS, "background", "photo", "and", "the", "of", "a")


def clip_tokenizer(length: int = LENGTH) -> CLIPTokenizer:
    """Build CLIP's tokenizer over the pocket words."""
    return tokenizers.clip_tokenizer(length, WORDS)


def t5_tokenizer(length: int = LENGTH, words: Sequence[str] = WORDS) -> T5Tokenizer:
    """Build T5's tokenizer over the pocket words, or others."""
    return tokenizers.t5_tokenizer(length, words)


def _spread_embeddings(model: Any, generator: torch.Generator) -> None:
    embeddings: Tensor = model.get_input_embeddings().weight
    positions = next(p for name, p in model.named_parameters() if name.endswith("position_embedding.weight"))
    with torch.no_grad():
        embeddings.copy_(torch.randn(embeddings.shape, generator=generator))
        positions.copy_(0.15 * torch.randn(positions.shape, generator=generator))


def clip_config(tokenizer: Any, width: int) -> CLIPTextConfig:
    """Size a CLIP text model for a tokenizer."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def clip_encoder(tokenizer: CLIPTokenizer, width: int, seed: int) -> CLIPTextModel:
    """Build a frozen random CLIP text model."""
    torch.manual_seed(seed)
    model = CLIPTextModel(clip_config(tokenizer, width))
    _spread_embeddings(model, torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(False)


def pooled_only_clip_encoder(tokenizer: CLIPTokenizer, width: int, seed: int) -> CLIPTextModel:
    """Build a CLIP text model whose pooled vector, all that is used of it, is zero: text acts through attention."""
    model = clip_encoder(tokenizer, width, seed)
    for name, parameter in model.named_parameters():
        if "final_layer_norm" in name:
            torch.nn.init.zeros_(parameter)
    return model


def clip_encoder_with_projection(tokenizer: CLIPTokenizer, width: int, seed: int) -> CLIPTextModelWithProjection:
    """Build a frozen random CLIP text model with a zero projection: its pooled vector carries no text."""
    torch.manual_seed(seed)
    model = CLIPTextModelWithProjection(clip_config(tokenizer, width))
    _spread_embeddings(model, torch.Generator().manual_seed(seed))
    torch.nn.init.zeros_(model.text_projection.weight)
    return model.eval().requires_grad_(False)


def t5_encoder(tokenizer: T5Tokenizer, width: int, seed: int) -> T5EncoderModel:
    """Build a frozen random T5 encoder."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=16,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
    )
    model = T5EncoderModel(config)
    embeddings: Any = model.get_input_embeddings().weight
    with torch.no_grad():
        embeddings.copy_(torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(seed)))
    return model.eval().requires_grad_(False)
