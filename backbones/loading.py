"""Loads diffusers pipelines, from safetensors only, and says in one line what is missing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from torch import nn

from segscale.errors import UserError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PACKAGED = "pocket:"
SAMPLED_ABOVE = 64 * 2**20
SAMPLES = 64


@dataclass(frozen=True)
class LoadOptions:
    """How weights are loaded.

    dtype: of denoiser and text encoders (the VAE always runs in float32: several overflow in half precision).
    offload: diffusers' own offload to the CPU. revision, variant: of the hub repository. offline: use only
    what is in the local cache.
    """

    device: str = "cpu"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    revision: str | None = None
    variant: str | None = None
    offline: bool = False
    offload: Literal["model", "sequential"] | None = None


def resolve_weights(weights: str) -> str:
    """Folder or hub id; ``pocket:NAME`` is a twin carried by this package."""
    if weights.startswith(PACKAGED):
        folder = Path(__file__).parent / "pocket" / "weights" / weights.removeprefix(PACKAGED)
        if not (folder / "model_index.json").is_file():
            raise UserError(
                f"no weights in {folder}",
                f"train them with: python -m segscale.backbones.pocket.train {folder.name}",
            )
        return str(folder)
    if weights.startswith((".", "/", "~")) or weights.count("/") != 1 or Path(weights).is_dir():
        folder = Path(weights).expanduser()
        if not (folder / "model_index.json").is_file():
            raise UserError(f"{folder} is not a diffusers folder (no model_index.json)", "check --weights")
        return str(folder)
    return weights


def load_pipeline(
    pipeline_class: type[DiffusionPipeline], weights: str, options: LoadOptions, **arguments: Any
) -> DiffusionPipeline:
    """A pipeline in evaluation mode on its device. ``arguments`` go to ``from_pretrained`` (None drops a part)."""
    check_device(options.device)
    source = resolve_weights(weights)
    try:
        pipeline = pipeline_class.from_pretrained(
            source,
            dtype=DTYPES[options.dtype],
            use_safetensors=True,
            revision=options.revision,
            variant=options.variant,
            local_files_only=options.offline or Path(source).is_dir(),
            **arguments,
        )
    except GatedRepoError as error:
        raise UserError(
            f"{weights} is gated", f"accept its licence at https://huggingface.co/{weights}, then: hf auth login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(f"there is no model {weights!r} on the hub", "check --weights, or: hf auth login") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"weights of {weights} cannot be loaded: {first_line(error)}",
            f"download them with: hf download {weights}" if source == weights else "check the folder",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(torch.float32)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return _place(pipeline, options)


def check_device(device: str) -> None:
    """Raises UserError for a device that torch does not know or this machine does not have."""
    usable = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    usable += ["cuda"] if torch.cuda.is_available() else []
    usable += ["mps"] if torch.backends.mps.is_available() else []
    if device not in usable:
        raise UserError(f"there is no device {device!r} here", f"there are: {', '.join(usable)}")


def _place(pipeline: DiffusionPipeline, options: LoadOptions) -> DiffusionPipeline:
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=options.device)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=options.device)
    else:
        pipeline.to(options.device)
    return pipeline


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def reinitialise(module: Any, seed: int = 0) -> None:
    """Give a diffusers model the random weights of its constructor, equal for equal seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(module).from_config(module.config)
    module.load_state_dict(fresh.state_dict())


def weights_fingerprint(weights: str, revision: str | None) -> str:
    """Revision of hub weights, or a hash over the files of a folder (large files by evenly spaced samples)."""
    source = Path(resolve_weights(weights))
    if not source.is_dir():
        return revision or "main"
    digest = hashlib.sha256()
    for path in sorted(p for p in source.rglob("*") if p.suffix in (".json", ".safetensors", ".txt", ".model")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(source)}:{size}".encode())
        with path.open("rb") as file:
            if size <= SAMPLED_ABOVE:
                digest.update(file.read())
                continue
            for sample in range(SAMPLES):
                file.seek(sample * (size - 4096) // (SAMPLES - 1))
                digest.update(file.read(4096))
    return digest.hexdigest()[:16]
