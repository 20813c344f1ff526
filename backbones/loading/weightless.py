"""Pipelines in a real architecture without its weights: random ones for measuring, or none at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from .options import LoadOptions
from .pretrained import DTYPES, TEXT_ENCODERS, part_dtypes, ready
from .tokenizers import clip_tokenizer, t5_tokenizer

WEIGHTED = ("unet", "transformer", "vae", *TEXT_ENCODERS)
TOKENIZERS = {"clip": clip_tokenizer, "t5": t5_tokenizer}
TEXT_CONFIGS = {
    "CLIPTextModel": transformers.CLIPTextConfig,
    "CLIPTextModelWithProjection": transformers.CLIPTextConfig,
    "T5EncoderModel": transformers.T5Config,
}


def _build_part(facts: Mapping[str, Any]) -> Any:
    facts = dict(facts)
    kind = facts.pop("type")
    if kind in TOKENIZERS:
        return TOKENIZERS[kind](**facts)
    if kind in TEXT_CONFIGS:
        return getattr(transformers, kind)(TEXT_CONFIGS[kind](**facts))
    return getattr(diffusers, kind)(**facts)


def build_without_weights(
    pipeline_class: type[DiffusionPipeline],
    architecture: Mapping[str, Mapping[str, Any]],
    options: LoadOptions,
    **parts: Any,
) -> DiffusionPipeline:
    """Build a pipeline whose parts follow a published configuration.

    Tokenizers know letters alone, at the real length: no shape and no time depends on them.

    Args:
        pipeline_class: What to build.
        architecture: Type and arguments of every part, by its name in the pipeline.
        options: Precision, and whether there are random weights or none.
        **parts: Parts that take the place of some; None drops one.
    """
    device = torch.device("meta" if options.source == "meta" else "cpu")
    dtypes = part_dtypes(options)
    built = dict(parts)
    for name, facts in architecture.items():
        if name in parts:
            continue
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtypes.get(name, DTYPES[options.dtype]))
        try:
            with device if name in WEIGHTED else torch.device("cpu"):
                built[name] = _build_part(facts)
        finally:
            torch.set_default_dtype(default)
    return ready(pipeline_class(**built), options)
