"""How weights are loaded. Imports no model library, so that the command line can offer the choices at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from segscale.errors import UserError

Dtype = Literal["float32", "float16", "bfloat16"]
Offload = Literal["model", "sequential"]
Training = Literal["none", "masks", "labels"]
Quantize = Literal["bitsandbytes-4bit", "bitsandbytes-8bit", "quanto-int8"]
LESS_MEMORY = "halve memory with --dtype float16, or see --offload and --quantize in: segscale run --help"
"""What to try where a device's memory is too small."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory ran out: torch has a class for that, but for mps only a message."""
    return type(error).__name__ == "OutOfMemoryError" or "MPS backend out of memory" in str(error)


@dataclass(frozen=True)
class LoadOptions:
    """Choices of loading a backbone's weights."""

    device: str = "cpu"
    dtype: Dtype = "float32"
    """Of the denoiser. The VAE always runs in float32: several overflow in half precision."""
    text_dtype: Dtype | None = None
    """Of the text encoders; None: as ``dtype``."""
    revision: str | None = None
    """Of the hub repository."""
    variant: str | None = None
    """Of the hub repository's weight files."""
    offline: bool = False
    """Whether only the local cache is used."""
    offload: Offload | None = None
    """diffusers' own."""
    device_map: str | None = None
    """diffusers' own."""
    quantize: Quantize | None = None
    """One of diffusers' backends, applied to denoiser and text encoders."""
    lora: str | None = None
    """Folder of a LoRA that is merged into the denoiser."""
    source: Literal["pretrained", "random", "meta"] = "pretrained"
    """``random`` weights in the config's architecture need no download; on ``meta`` there are only shapes."""


def check_change(change: str, load: LoadOptions) -> None:
    """Raise UserError where weights cannot be changed once they are loaded; ``change`` says what cannot be."""
    if load.quantize is not None or load.offload == "sequential":
        obstacle = "--quantize" if load.quantize is not None else "--offload sequential"
        raise UserError(f"{change} with {obstacle}", "leave one of them out")


def check_untrained(untrained: bool, load: LoadOptions) -> None:
    """Raise UserError where the denoiser is to get random weights and would keep those that it has."""
    if untrained:
        check_change("the denoiser cannot get random weights", load)


class LoadChoices(TypedDict, total=False):
    """The fields of ``LoadOptions`` as arguments of a function."""

    device: str
    dtype: Dtype
    text_dtype: Dtype | None
    revision: str | None
    variant: str | None
    offline: bool
    offload: Offload | None
    device_map: str | None
    quantize: Quantize | None
    lora: str | None
    source: Literal["pretrained", "random", "meta"]
