"""Loads diffusers pipelines, from safetensors only, and says in one line what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, PipelineQuantizationConfig
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import nn

from segscale.errors import UserError

Dtype = Literal["float32", "float16", "bfloat16"]
Quantize = Literal["bitsandbytes-4bit", "bitsandbytes-8bit", "quanto-int8"]
DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PACKAGED = "pocket:"
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
SAMPLED_ABOVE = 64 * 2**20
SAMPLES = 64


@dataclass(frozen=True)
class LoadOptions:
    """How weights are loaded.

    dtype: of the denoiser, and of the text encoders unless text_dtype is given. The VAE always runs in
    float32: several overflow in half precision. revision, variant: of the hub repository. offline: use only
    what is in the local cache. offload, device_map, quantize: diffusers' own; quantize names one of its
    backends and applies to denoiser and text encoders. source: ``random`` weights in the config's architecture
    need no download; on ``meta`` there are no weights at all, only shapes.
    """

    device: str = "cpu"
    dtype: Dtype = "float32"
    text_dtype: Dtype | None = None
    revision: str | None = None
    variant: str | None = None
    offline: bool = False
    offload: Literal["model", "sequential"] | None = None
    device_map: str | None = None
    quantize: Quantize | None = None
    source: Literal["pretrained", "random", "meta"] = "pretrained"


def resolve_weights(weights: str, marker: str = "model_index.json") -> str:
    """Folder or hub id; ``pocket:NAME`` is a twin carried by this package. ``marker``: a file a folder must have."""
    if weights.startswith(PACKAGED):
        folder = Path(__file__).parents[1] / "pocket" / "weights" / weights.removeprefix(PACKAGED)
        if not (folder / marker).is_file():
            raise UserError(
                f"no weights in {folder}",
                f"train them with: python -m segscale.backbones.pocket.train {folder.name}",
            )
        return str(folder)
    if weights.startswith((".", "/", "~")) or weights.count("/") != 1 or Path(weights).is_dir():
        folder = Path(weights).expanduser()
        if not (folder / marker).is_file():
            raise UserError(f"{folder} is not a diffusers folder (no {marker})", "check --weights")
        return str(folder)
    return weights


def load_pipeline(
    pipeline_class: type[DiffusionPipeline], denoiser: str, weights: str, options: LoadOptions, **arguments: Any
) -> DiffusionPipeline:
    """A pipeline in evaluation mode on its device. ``arguments`` go to ``from_pretrained`` (None drops a part)."""
    source = resolve_weights(weights)
    with explained(weights, source):
        pipeline = pipeline_class.from_pretrained(
            source,
            dtype=part_dtypes(options),
            quantization_config=quantization(options, denoiser),
            device_map=options.device_map,
            use_safetensors=True,
            revision=options.revision,
            variant=options.variant,
            local_files_only=options.offline or Path(source).is_dir(),
            **arguments,
        )
    return ready(pipeline, options)


def load_denoiser(model_class: Any, weights: str, part: str, options: LoadOptions) -> nn.Module:
    """The denoiser alone, for repositories that hold nothing else; revision and variant are the other one's."""
    configuration = quantization(options, part)
    source = resolve_weights(weights, f"{part}/config.json")
    with explained(weights, source):
        return model_class.from_pretrained(
            source,
            subfolder=part,
            dtype=DTYPES[options.dtype],
            quantization_config=configuration.quant_mapping[part] if configuration else None,
            use_safetensors=True,
            local_files_only=options.offline or Path(source).is_dir(),
        )


def part_dtypes(options: LoadOptions) -> dict[str, torch.dtype]:
    """Precision of every part, as ``from_pretrained`` takes it."""
    text = DTYPES[options.text_dtype or options.dtype]
    return {"default": DTYPES[options.dtype], "vae": torch.float32} | dict.fromkeys(TEXT_ENCODERS, text)


def quantization(options: LoadOptions, denoiser: str) -> PipelineQuantizationConfig | None:
    """diffusers' configuration for the parts whose weights are large; their other weights keep their dtype."""
    if options.quantize is None:
        return None
    ours, theirs = {
        "bitsandbytes-4bit": (
            lambda: diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=DTYPES[options.dtype]),
            lambda: transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=DTYPES[options.dtype]),
        ),
        "bitsandbytes-8bit": (
            lambda: diffusers.BitsAndBytesConfig(load_in_8bit=True),
            lambda: transformers.BitsAndBytesConfig(load_in_8bit=True),
        ),
        "quanto-int8": (
            lambda: diffusers.QuantoConfig(weights_dtype="int8"),
            lambda: transformers.QuantoConfig(weights="int8"),
        ),
    }[options.quantize]
    mapping = {denoiser: ours()} | {part: theirs() for part in TEXT_ENCODERS}
    return PipelineQuantizationConfig(quant_mapping=mapping)


@contextmanager
def explained(weights: str, source: str, option: str = "--weights") -> Iterator[None]:
    """Turns what can be missing or wrong about weights into one line; ``option`` is what named them."""
    try:
        yield
    except (OSError, ValueError, ImportError, NotImplementedError, HfHubHTTPError) as error:
        raise _explanation(weights, source, [*_causes(error)], option) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything it came from; diffusers wraps what the hub said."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explanation(weights: str, source: str, causes: list[BaseException], option: str) -> UserError:
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        page = f"https://huggingface.co/{weights}"
        return UserError(f"{weights} is gated", f"accept its licence at {page}, then: hf auth login")
    if any(isinstance(cause, RepositoryNotFoundError | HFValidationError) for cause in causes):
        return UserError(f"the hub has no model {weights}, or not for you", f"check {option}, or: hf auth login")
    if any(isinstance(cause, ImportError) for cause in causes):
        return UserError(first_line(causes[-1]), "install what is missing: pip install 'segscale[quantize]'")
    if Path(source).is_dir():
        return UserError(f"weights of {weights} cannot be loaded: {first_line(causes[0])}", "check the folder")
    if any(isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError) for cause in causes):
        return UserError(f"{weights} is not in the cache, and the hub was not reached", f"try: hf download {weights}")
    return UserError(f"weights of {weights} cannot be loaded: {first_line(causes[0])}", f"try: hf download {weights}")


def check_device(device: str, offload: str | None) -> None:
    """Raises UserError for a device that torch does not know or this machine does not have, or no GPU to offload."""
    usable = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    usable += ["cuda"] if torch.cuda.is_available() else []
    usable += ["mps"] if torch.backends.mps.is_available() else []
    if device not in usable:
        raise UserError(f"there is no device {device!r} here", f"there are: {', '.join(usable)}")
    if device == "cpu" and offload:
        raise UserError("offloading moves parts between the CPU and a GPU", "name the GPU with --device")


def ready(pipeline: DiffusionPipeline, options: LoadOptions) -> DiffusionPipeline:
    """In evaluation mode, on its device."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    if options.device_map is not None or options.source == "meta":
        return pipeline
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


def hub_commit(repository: str, revision: str | None, marker: str, offline: bool) -> str:
    """Commit of a hub repository's revision, by the snapshot that one of its small files is in.

    A cached revision is taken as it is; ``hf download`` brings a newer one.
    """
    path = try_to_load_from_cache(repository, marker, revision=revision)
    if not isinstance(path, str):
        with explained(repository, repository):
            path = hf_hub_download(repository, marker, revision=revision, local_files_only=offline)
    return Path(path).parents[marker.count("/")].name


def weights_fingerprint(
    weights: str, revision: str | None = None, marker: str = "model_index.json", offline: bool = False
) -> str:
    """Hub id and commit, or a hash over the files of a folder (large files by evenly spaced samples)."""
    source = Path(resolve_weights(weights, marker))
    if not source.is_dir():
        return f"{weights}@{hub_commit(weights, revision, marker, offline)}"
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
