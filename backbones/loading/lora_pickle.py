"""Converts LoRAs that were published as pickles, such as Seg4Diff's ``lora_weights.pth``."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from segscale.errors import UserError

from ..backbone import Backbone
from .lora import DOWN, UP, Lora, checked_lora, respelled, save_lora
from .options import Training


def convert_pickle(source: Path, folder: Path, backbone: Backbone, alpha: float | None, training: Training) -> Path:
    """Write the LoRA in a pickle as a folder that ``--lora`` takes.

    Args:
        source: Written by ``torch.save``. It is read with ``weights_only``, so no code in it runs.
        folder: Gets the safetensors file.
        backbone: What the LoRA changes; shapes are enough.
        alpha: The LoRA's, by default its rank.
        training: What it was taught with.

    Returns:
        The file.

    Raises:
        UserError: For a file that is no such pickle, or tensors that are no LoRA of this denoiser.
    """
    layers = {name: module for name, module in backbone.denoiser.named_modules() if isinstance(module, nn.Linear)}
    tensors = dict(_renamed(_read(source), layers, source))
    lora = replace(checked_lora(tensors, alpha, str(source)), training=training)
    _check_shapes(lora, layers, source)
    return save_lora(folder, backbone.denoiser_part, lora)


def _check_shapes(lora: Lora, layers: Mapping[str, nn.Linear], source: Path) -> None:
    """Raises UserError where the LoRA is of a denoiser of other widths, such as a larger one of the family."""
    for name in lora.modules:
        layer = layers[name]
        for kind, shape in ((DOWN, (lora.rank, layer.in_features)), (UP, (layer.out_features, lora.rank))):
            if (theirs := tuple(lora.tensors[name + kind].shape)) != shape:
                raise UserError(f"{source} holds {name}{kind} of {theirs}, not {shape}", "name another BACKBONE")


def _read(source: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own words advise to run the file's code.
        raise UserError(
            f"{source} is no pickle of tensors alone", "name the LoRA's file, as it was published"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        line = str(error).strip().partition("\n")[0]
        raise UserError(f"{source} cannot be read as tensors alone ({line})", "download it anew") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{source} is no table of tensors", "name the LoRA's file, such as lora_weights.pth")
    return content


def _renamed(content: Mapping[str, Tensor], layers: Collection[str], source: Path) -> Iterator[tuple[str, Tensor]]:
    """Tensors by the denoiser's own layers, whatever wraps it in front of their names."""
    for key, tensor in sorted(content.items()):
        name = respelled(key)
        module, kind, _ = name.rpartition(".lora_")
        layer = _suffix_in(module, layers)
        if not kind or layer is None:
            raise UserError(f"{source} holds {key}, which is no LoRA of this backbone", "name another BACKBONE")
        yield f"{layer}{name[len(module) :]}", tensor.float().contiguous()


def _suffix_in(module: str, layers: Collection[str]) -> str | None:
    """The longest end of a dotted name that is a layer."""
    while module and module not in layers:
        module = module.partition(".")[2]
    return module or None
