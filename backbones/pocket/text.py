"""Tokenizers and frozen text encoders of the pocket twins.

One token per object and ground; unknown words fall apart into letters. The encoders keep their random
initialisation: token vectors stay apart, and meaning cannot leak into commas or the end token.
"""

from __future__ import annotations

import string
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

LENGTH = 16
# Merges rank in this order: a word inside another one ("and" in "sand") comes after it.
WORDS = (*GROUNDS, *OBJECTS, "background", "photo", "and", "the", "of", "a")
SYMBOLS = string.ascii_lowercase + string.digits + ",.'-!"
WORD_END = "</w>"


def _word_merges() -> list[tuple[str, str]]:
    """BPE merges that spell every known word left to right."""
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + WORD_END]
        prefix = pieces[0]
        for piece in pieces[1:]:
            merges[prefix, piece] = None
            prefix += piece
    return list(merges)


def clip_tokenizer(length: int = LENGTH) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer over the pocket words, padding and cutting to ``length`` tokens."""
    merges: Any = _word_merges()
    symbols = [*SYMBOLS, *(symbol + WORD_END for symbol in SYMBOLS)]
    pieces = dict.fromkeys([*symbols, *(left + right for left, right in merges), "<|startoftext|>", "<|endoftext|>"])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def t5_tokenizer(length: int = LENGTH) -> T5Tokenizer:
    """T5's unigram tokenizer over the pocket words, padding and cutting to ``length`` tokens."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(symbol, -8.0) for symbol in ("▁", *SYMBOLS)]
    words = [(f"▁{word}", -4.0) for word in WORDS if len(word) > 1]
    return T5Tokenizer(vocab=[*special, *letters, ("▁a", -4.0), *words], extra_ids=0, model_max_length=length)


def _spread_embeddings(model: Any, generator: torch.Generator) -> None:
    embeddings: Tensor = model.get_input_embeddings().weight
    positions = next(p for name, p in model.named_parameters() if name.endswith("position_embedding.weight"))
    with torch.no_grad():
        embeddings.copy_(torch.randn(embeddings.shape, generator=generator))
        positions.copy_(0.15 * torch.randn(positions.shape, generator=generator))


def clip_config(tokenizer: Any, width: int) -> CLIPTextConfig:
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
    """A frozen random CLIP text model."""
    torch.manual_seed(seed)
    model = CLIPTextModel(clip_config(tokenizer, width))
    _spread_embeddings(model, torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(False)


def pooled_only_clip_encoder(tokenizer: CLIPTokenizer, width: int, seed: int) -> CLIPTextModel:
    """A CLIP text model of which only the pooled vector is used, and that is zero: text acts through attention."""
    model = clip_encoder(tokenizer, width, seed)
    for name, parameter in model.named_parameters():
        if "final_layer_norm" in name:
            torch.nn.init.zeros_(parameter)
    return model


def clip_encoder_with_projection(tokenizer: CLIPTokenizer, width: int, seed: int) -> CLIPTextModelWithProjection:
    """A frozen random CLIP text model with a zero projection: its pooled vector carries no text."""
    torch.manual_seed(seed)
    model = CLIPTextModelWithProjection(clip_config(tokenizer, width))
    _spread_embeddings(model, torch.Generator().manual_seed(seed))
    torch.nn.init.zeros_(model.text_projection.weight)
    return model.eval().requires_grad_(False)


def t5_encoder(tokenizer: T5Tokenizer, width: int, seed: int) -> T5EncoderModel:
    """A frozen random T5 encoder."""
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
