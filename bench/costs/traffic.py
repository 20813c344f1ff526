"""Bytes that observing attention moves and makes, counted on shapes alone: ``python -m segscale.bench.costs.traffic``.

Every operation reads its inputs and writes its outputs. The count is that of the observed forward less that of the
plain one, in half precision and in chunks as on a GPU. What methods make of the maps is not in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segscale.prompt import Prompt

from ...backbones.attention.chunks import AttentionCall
from ...backbones.attention.kernels import attend_with_log_sums
from ...backbones.attention.maps import AttentionMaps
from ...backbones.attention.probe import AttentionProbe
from ...backbones.attention.requests import MapRequest
from ...backbones.attention.ways import Way, Ways
from ...backbones.backbone import Backbone
from ...backbones.build import build_backbone
from ...backbones.inputs import PromptedImage
from ...backbones.latents.noise import NoiseLevel
from ...backbones.loading.options import LoadOptions
from ...methods.build import build_method
from ..inference.memory import GIB

BACKBONES = ("sd15", "sdxl", "pixart-sigma", "sd3", "sd35-large", "flux")
"""One of every family, and the largest."""
METHODS = ("goca-heads", "goca")
"""Heads are weighed, or heads and layers; both refine scores by the pixel-to-pixel maps of a few sites."""
ALLOCATING = frozenset({"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"})
"""Operations that write nothing."""
OVERWRITING = frozenset({"aten::copy_", "aten::fill_", "aten::zero_"})
"""Operations in place that do not read what was there."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of a stretch of work."""

    moved: int
    """Read and written by all operations."""
    made: int
    """Of the tensors that they allocated."""

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.moved - other.moved, self.made - other.made)


class Counter(TorchDispatchMode):
    """Counts the bytes of every operation inside its context; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.made = 0

    @property
    def traffic(self) -> Traffic:
        """What was counted so far."""
        return Traffic(self.moved, self.made)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count one operation."""
        result = func(*args, **(kwargs or {}))
        name, mutable = func._schema.name, func._schema.is_mutable
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        known = {_storage(tensor) for tensor in inputs}
        made = [tensor for tensor in outputs if _storage(tensor) not in known]
        self.made += sum(map(_bytes, made))
        # A result in the memory of an input is written where the operation says so, else a view.
        written = outputs if mutable else made
        if written and name not in ALLOCATING:
            read = [tensor for tensor in inputs if not any(tensor is output for output in outputs)]
            in_place = mutable and "out" not in (kwargs or {}) and name not in OVERWRITING
            self.moved += sum(map(_bytes, [*read, *written, *(written if in_place else [])]))
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    """Of the elements that are there; those of an expanded axis are the same."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * prod(size for size, step in sizes if step or size == 0)


@dataclass(frozen=True)
class Question:
    """What is observed: one image of the method's size."""

    backbone: Backbone
    image_size: int
    request: MapRequest

    def count(self, way: Way) -> tuple[Traffic, AttentionMaps]:
        """Traffic that observing adds to a plain forward, and what was observed."""
        level = NoiseLevel(500, 0.5, 0.5)
        backbone, prompt = self.backbone, Prompt("", ())
        side = self.image_size // backbone.latent_stride
        latent = torch.empty(1, backbone.vae.config["latent_channels"], side, side, device=backbone.device)
        # transformers looks into a mask's values to skip it; shapes have none.
        with patch("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False):
            conditioning = backbone.conditioning([prompt.text])
        timestep = torch.tensor([level.timestep], device=backbone.device)
        observe = partial(
            backbone.observe, [PromptedImage(latent, level, prompt)], self.request, self.image_size, ways=Ways(way, way)
        )
        (maps,) = observe()
        watched = dict.fromkeys(maps.ways, _attend)
        with torch.no_grad(), Counter() as plain, AttentionProbe(backbone.denoiser, watched):
            backbone.denoise(latent.to(backbone.dtype), timestep, conditioning)
        with Counter() as observed:
            observe()
        return observed.traffic - plain.traffic, maps


def _attend(call: AttentionCall) -> tuple[Tensor, None]:
    """As torch would on a GPU; on shapes it computes all probabilities."""
    attended = attend_with_log_sums(call)
    assert attended is not None
    return attended.output, None


def rows(backbone_name: str) -> Iterator[list[object]]:
    """A line of the table for every method."""
    load = LoadOptions(source="meta", dtype="float16")
    backbone = build_backbone(backbone_name, load)
    for method_name in METHODS:
        method = build_method(method_name, backbone_name)
        size = method.settings.image_size
        question = Question(backbone, size, method.request(backbone.sites(size)))
        chunked, _ = question.count("chunked")
        fused, maps = question.count("fused")
        ways = [*maps.ways.values()]
        counts = (chunked.moved, fused.moved, chunked.made, fused.made)
        shown = [f"{count / GIB:.2f}" for count in counts]
        yield [f"{backbone_name}, {size} px", method_name, f"{ways.count('fused')} of {len(ways)}", *shown]


def main() -> None:
    """Print the table of every backbone."""
    titles = ("", "method", "fused modules", "moved in chunks", "moved fused", "made in chunks", "made fused")
    table = [row for name in (sys.argv[1:] or BACKBONES) for row in rows(name)]
    sys.stdout.write("GiB per image and forward, beyond the plain forward's\n")
    sys.stdout.write(tabulate(table, titles, tablefmt="github", disable_numparse=True) + "\n")


if __name__ == "__main__":
    main()
