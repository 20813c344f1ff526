"""What is usable on this machine, and how to get what is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache

from segscale.catalogue import config_files
from segscale.errors import UserError
from segscale.registry import backbone_class, build, load_config

from ..backbones.loading.pretrained import resolve_weights

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "mmengine", "mmsegmentation", "mmcv-lite", "pyarrow")

Finding = tuple[str, str, str]


def package_findings() -> Iterator[Finding]:
    """Kind, name and state of every package the harness stands on."""
    for name in PACKAGES:
        try:
            yield "package", name, version(name)
        except PackageNotFoundError:
            yield "package", name, f"missing: pip install -c constraints.txt {name}"


def device_findings() -> Iterator[Finding]:
    """Processor and GPUs of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield "device", "cpu", f"{os.cpu_count()} cores, {memory:.0f} GiB of memory"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield "device", f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        yield "device", "cuda", "none: real backbones are slow without a GPU"


def weights_findings() -> Iterator[Finding]:
    """Whether the weights of every backbone are here."""
    for name in config_files("backbone"):
        config = load_config("backbone", name)
        yield "weights", name, _state_of_weights(config["weights"], "model_index.json")
        if (apart := config.get("denoiser_weights")) is not None:
            index_file = f"{backbone_class(name).denoiser_part}/config.json"
            yield "weights", name, f"its denoiser: {_state_of_weights(apart, index_file)}"


def _state_of_weights(weights: str, index_file: str) -> str:
    """Whether they are here, or the command that gets them; ``index_file`` is in every repository of their kind."""
    try:
        source = resolve_weights(weights, index_file)
    except UserError as error:
        return str(error)
    if source != weights:
        return "here"
    if not isinstance(index := try_to_load_from_cache(weights, index_file), str):
        return f"not in the cache: hf download {weights}"
    folder = Path(index.removesuffix(index_file))
    whole = any(folder.glob("*/*.safetensors"))
    return "in the cache" if whole else f"only in part in the cache: hf download {weights}"


def dataset_findings() -> Iterator[Finding]:
    """Whether the files of every dataset are here."""
    for name in config_files("dataset"):
        try:
            dataset = build("dataset", name)
        except UserError as error:
            yield "dataset", name, str(error)
        else:
            yield "dataset", name, f"{len(dataset)} images in split {dataset.split}"


def findings() -> list[Finding]:
    """Everything, in the order it is printed."""
    return [*package_findings(), *device_findings(), *weights_findings(), *dataset_findings()]
