"""Loads diffusers pipelines, from safetensors only, and says in one line what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, PipelineQuantizationConfig
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import nn

from segscale.catalogue import PACKAGED, documentation
from segscale.errors import UserError

from .options import LESS_MEMORY, Dtype, LoadOptions, Quantize, is_out_of_memory
from .whole import (
    TEXT_ENCODERS,
    check_family,
    check_folder,
    check_loaded,
    conversion,
    recorded_loading,
    refuse_single_file,
)

NOT_REACHED = (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)
QUANTIZERS: dict[Quantize, str] = {
    "bitsandbytes-4bit": "bitsandbytes",
    "bitsandbytes-8bit": "bitsandbytes",
    "quanto-int8": "optimum-quanto",
}
DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def resolve_weights(weights: str, marker: str = "model_index.json") -> str:
    """Return a folder, or a hub id as it is.

    Args:
        weights: Folder, hub id, or ``pocket:NAME`` for a twin that comes with this package.
        marker: A file that a folder must have.

    Raises:
        UserError: For a folder without it.
    """
    if weights.startswith(PACKAGED):
        folder = Path(__file__).parents[1] / "pocket" / "weights" / weights.removeprefix(PACKAGED)
        if not (folder / marker).is_file():
            raise UserError(f"no weights in {folder}", f"{documentation('pocket.md')} says how to train them")
        return str(folder)
    refuse_single_file(weights)
    if weights.startswith((".", "/", "~")) or weights.count("/") != 1 or Path(weights).is_dir():
        folder = Path(weights).expanduser()
        if not (folder / marker).is_file():
            raise UserError(f"{folder} is not a diffusers folder (no {marker})", "check --weights")
        return str(folder)
    return weights


def refuse_revision(folder: str, load: LoadOptions) -> None:
    """Raise UserError where a revision is asked of a folder."""
    if load.revision is not None:
        raise UserError(f"{folder} is no hub repository, so it has no revision {load.revision}", "leave it out")


def load_pipeline(
    pipeline_class: type[DiffusionPipeline], denoiser: str, weights: str, options: LoadOptions, **parts: Any
) -> DiffusionPipeline:
    """Load a pipeline in evaluation mode on its device; ``parts`` take the place of its own, None drops one."""
    make_current(options.device)
    source = resolve_weights(weights)
    if Path(source).is_dir():
        refuse_revision(weights, options)
    fetching: dict[str, Any] = {
        "revision": options.revision,
        "local_files_only": options.offline or Path(source).is_dir(),
    }
    with explained(weights, source), recorded_loading() as loaded:
        index: dict[str, Any] = pipeline_class.load_config(source, **fetching)
        check_family(weights, index, pipeline_class)
        if Path(source).is_dir():
            check_folder(weights, Path(source), index, parts)
        pipeline = pipeline_class.from_pretrained(
            source,
            dtype=part_dtypes(options),
            quantization_config=quantization(options, denoiser),
            device_map=options.device_map,
            use_safetensors=True,
            variant=options.variant,
            **fetching,
            **parts,
        )
        check_loaded(weights, pipeline.components, loaded, restoring(weights, source))
    return ready(pipeline, options)


def load_denoiser(model_class: Any, weights: str, part: str, options: LoadOptions) -> nn.Module:
    """Load the denoiser alone, from a repository that holds nothing else, at its own revision and variant."""
    if options.device_map is not None:
        problem = f"{weights} holds the {part} alone, and --device-map places what one repository holds"
        raise UserError(problem, "leave --device-map out, or see --offload in: segscale run --help")
    make_current(options.device)
    configuration = quantization(options, part)
    source = resolve_weights(weights, f"{part}/config.json")
    with explained(weights, source), recorded_loading() as loaded:
        denoiser = model_class.from_pretrained(
            source,
            subfolder=part,
            dtype=DTYPES[options.dtype],
            quantization_config=configuration.quant_mapping[part] if configuration else None,
            use_safetensors=True,
            local_files_only=options.offline or Path(source).is_dir(),
        )
        check_loaded(weights, {part: denoiser}, loaded, restoring(weights, source))
    return denoiser


def restoring(weights: str, source: str) -> str:
    """How to get weights anew that are damaged."""
    if weights.startswith(PACKAGED):
        return "install segscale anew"
    is_folder = Path(source).is_dir()
    return "copy the folder anew from where it came" if is_folder else f"try: hf download {weights} --force-download"


def part_dtypes(options: LoadOptions) -> dict[str, torch.dtype]:
    """Return the precision of every part, as ``from_pretrained`` takes it."""
    text = DTYPES[options.text_dtype or options.dtype]
    return {"default": DTYPES[options.dtype], "vae": torch.float32} | dict.fromkeys(TEXT_ENCODERS, text)


def quantization(options: LoadOptions, denoiser: str) -> PipelineQuantizationConfig | None:
    """Configure quantisation of the parts whose weights are large; their other weights keep their dtype.

    Raises:
        UserError: Where the backend is not installed.
    """
    if options.quantize is None:
        return None
    package = QUANTIZERS[options.quantize]
    if not [*distributions(name=package)]:
        raise UserError(f"--quantize {options.quantize} needs {package}", "in the clone: pip install -e '.[quantize]'")
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
    """Turn what can be missing or wrong about weights into one line; ``option`` is what named them."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _explanation(weights, source, [*_causes(error)], option) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything it came from; diffusers wraps what the hub said."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explanation(weights: str, source: str, causes: list[BaseException], option: str) -> UserError:
    if any(map(is_out_of_memory, causes)):
        return _too_large()
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        page = f"https://huggingface.co/{weights}"
        return UserError(f"{weights} is gated", f"accept its licence at {page}, then: hf auth login")
    if any(isinstance(cause, RepositoryNotFoundError | HFValidationError) for cause in causes):
        return UserError(f"the hub has no model {weights}, or not for you", f"check {option}, or: hf auth login")
    if missing := [cause for cause in causes if isinstance(cause, ImportError)]:
        problem = f"weights of {weights} cannot be loaded: {first_line(missing[-1])}"
        return UserError(problem, "install what is missing with pip, or segscale anew")
    if isinstance(causes[0], NotImplementedError):
        return UserError(f"weights of {weights} cannot be loaded: {first_line(causes[0])}", "choose among these")
    if Path(source).is_dir():
        return UserError(f"weights of {weights} cannot be loaded: {first_line(causes[0])}", "check the folder")
    if any("safetensors" in first_line(cause) for cause in causes):
        hint = conversion(f"DiffusionPipeline.from_pretrained('{weights}')", weights.partition("/")[2])
        return UserError(f"{weights} holds no safetensors", hint)
    if any(isinstance(cause, NOT_REACHED) for cause in causes):
        return UserError(f"{weights} is not in the cache, and the hub was not reached", f"try: hf download {weights}")
    return UserError(f"weights of {weights} cannot be loaded: {first_line(causes[0])}", f"try: hf download {weights}")


def check_device(load: LoadOptions) -> None:
    """Raise UserError for a device that torch does not know or this machine lacks, or an offload that cannot be."""
    usable = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    usable += ["cuda"] if torch.cuda.is_available() else []
    usable += ["mps"] if torch.backends.mps.is_available() else []
    if load.device not in usable:
        raise UserError(f"there is no device {load.device!r} here", f"there are: {', '.join(usable)}")
    if load.offload and load.device_map:
        raise UserError("--device-map places parts once, --offload moves them", "leave one of them out")
    if load.offload and load.device == "cpu":
        raise UserError("offloading moves parts between the CPU and a GPU", "name the GPU with --device")


def make_current(device: str) -> None:
    """Make a numbered GPU torch's current one: bitsandbytes puts weights there, of all ranks on the first otherwise."""
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)


def _too_large() -> UserError:
    return UserError("the weights do not fit into the device's memory", LESS_MEMORY)


def ready(pipeline: DiffusionPipeline, options: LoadOptions) -> DiffusionPipeline:
    """Put a pipeline into evaluation mode, on its device. Raises UserError where that has too little memory."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    if options.device_map is None and options.source != "meta":
        try:
            _place(pipeline, options)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise _too_large() from error
    return pipeline


def _place(pipeline: DiffusionPipeline, options: LoadOptions) -> None:
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=options.device)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=options.device)
    else:
        pipeline.to(options.device)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def reinitialise(module: Any, seed: int = 0) -> None:
    """Give a diffusers model the random weights of its constructor, equal for equal seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(module).from_config(module.config)
    module.load_state_dict(fresh.state_dict())
