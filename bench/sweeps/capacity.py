"""Whether the weights of a backbone fit into a device, by their shapes alone."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from segscale.errors import UserError
from segscale.registry import load_config

from ...backbones.build import build_backbone
from ...backbones.loading.options import LoadOptions
from ...backbones.loading.pretrained import check_device, resolve_weights
from ..inference.memory import GIB
from ..runs.options import RunOptions


def check_memory(backbone_name: str, options: RunOptions) -> None:
    """Raises UserError for a device that is not here, or whose memory is less than the weights alone.

    What is placed or quantised otherwise (``--offload``, ``--device-map``, ``--quantize``) is not looked at.
    """
    load = options.load
    check_device(load)
    if load.offload or load.device_map or load.quantize:
        return
    needed, there = weights_bytes(backbone_name, options), device_bytes(load.device)
    if needed > there:
        problem = f"the weights of {backbone_name} take {needed / GIB:.1f} GiB in {load.dtype}"
        hint = "halve them with --dtype float16, or see --offload and --quantize in: segscale run --help"
        raise UserError(f"{problem}, {load.device} has {there / GIB:.1f} GiB", hint)


def weights_bytes(backbone_name: str, options: RunOptions) -> int:
    """Bytes of all parameters: of the config's architecture, or of the files of weights that are here."""
    if options.weights is None and "architecture" in load_config("backbone", backbone_name):
        shapes = LoadOptions(source="meta", dtype=options.load.dtype, text_dtype=options.load.text_dtype)
        parts = build_backbone(backbone_name, shapes).pipeline.components.values()
        return sum(
            parameter.numel() * parameter.element_size()
            for part in parts
            if isinstance(part, nn.Module)
            for parameter in part.parameters()
        )
    folder = Path(resolve_weights(options.weights or load_config("backbone", backbone_name)["weights"]))
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors")) if folder.is_dir() else 0


def device_bytes(device: str) -> int:
    """Memory of a GPU, or of this machine."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
