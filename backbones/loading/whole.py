"""Refuses weights that are not whole, not finite or of another family, in one line that names what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from diffusers import DiffusionPipeline, ModelMixin
from torch import Tensor, nn
from transformers import PreTrainedModel

from segscale.catalogue import documentation
from segscale.errors import UserError

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
DENOISERS = ("unet", "transformer")
NAMED_TENSORS = 3
# A buffer of old text encoders, which newer ones compute.
NOT_NEEDED = "position_ids"


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what its library says of loading it."""

    model: nn.Module
    missing: tuple[str, ...]
    """Tensors that no file has. Of tied ones, those that none of them could be read from."""
    unexpected: tuple[str, ...]
    """Tensors of the files that the model has no place for."""


@contextmanager
def recorded_loading() -> Iterator[list[LoadedModel]]:
    """Collect what diffusers and transformers say of every model that is loaded within the block.

    A pipeline loads its parts itself and passes their reports on to nobody, so both libraries are asked here.
    """
    loaded: list[LoadedModel] = []
    with _reporting(ModelMixin, loaded), _reporting(PreTrainedModel, loaded):
        yield loaded


def _reporting(base: type[Any], loaded: list[LoadedModel]) -> Any:
    plain = base.from_pretrained.__func__

    def from_pretrained(cls: type[Any], *arguments: Any, **options: Any) -> Any:
        model, report = plain(cls, *arguments, output_loading_info=True, **options)
        unexpected = (key for key in report["unexpected_keys"] if not key.endswith(NOT_NEEDED))
        loaded.append(LoadedModel(model, tuple(sorted(report["missing_keys"])), tuple(sorted(unexpected))))
        return model

    return patch.object(base, "from_pretrained", classmethod(from_pretrained))


def check_loaded(weights: str, parts: Mapping[str, Any], loaded: Iterable[LoadedModel], hint: str) -> None:
    """Raise UserError for a part with a tensor that is missing, unexpected or not finite."""
    reports = {id(report.model): report for report in loaded}
    for part, model in parts.items():
        if report := reports.get(id(model)):
            _refuse(f"{weights}: {part} lacks", report.missing, "", hint)
            _refuse(f"{weights}: {part} has", report.unexpected, " that it cannot use", hint)
            verb = "is" if len(names := not_finite(report.model)) == 1 else "are"
            _refuse(f"{weights}: {part} has", names, f" that {verb} not finite", hint)


def _refuse(start: str, tensors: Collection[str], end: str, hint: str) -> None:
    if not tensors:
        return
    names = ", ".join(sorted(tensors)[:NAMED_TENSORS])
    rest = f" and {len(tensors) - NAMED_TENSORS} more" if len(tensors) > NAMED_TENSORS else ""
    raise UserError(f"{start} {len(tensors)} tensor{'s' if len(tensors) > 1 else ''}{end}: {names}{rest}", hint)


def not_finite(model: nn.Module) -> list[str]:
    """Name the tensors of a model that hold NaN or an infinity."""
    return [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]


def _is_finite(tensor: Any) -> bool:
    if not isinstance(tensor, Tensor) or tensor.is_meta or not tensor.is_floating_point() or tensor.itemsize < 2:
        return True
    # Extremes hand NaN on, and need neither time nor memory beside loading: 0.2 s per GiB.
    return not tensor.numel() or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def check_family(weights: str, index: Mapping[str, Any], pipeline_class: type[DiffusionPipeline]) -> None:
    """Raise UserError where ``index`` (model_index.json) names other text encoders, or another kind of denoiser."""
    expected = {
        name: types[0].__name__
        for name, types in pipeline_class._get_signature_types().items()
        if name in (*TEXT_ENCODERS, *DENOISERS)
    }
    theirs = {name: index[name][1] for name in (*TEXT_ENCODERS, *DENOISERS) if index.get(name, (None,))[0]}
    others = [name for name in theirs if name in TEXT_ENCODERS and theirs[name] != expected.get(name)]
    lacking = [name for name in expected if name not in theirs and name not in index]
    if others or lacking or not theirs.keys() <= expected.keys():
        names = f"{index.get('_class_name')}, not {pipeline_class.__name__}"
        raise UserError(f"{weights} are weights of another family ({names})", "name its backbone, see: segscale list")


def check_folder(weights: str, folder: Path, index: Mapping[str, Any], left_out: Collection[str]) -> None:
    """Raise UserError for a part that has no folder, or whose weights are no safetensors."""
    for part, value in index.items():
        if not isinstance(value, list) or value[0] is None or part in left_out:
            continue
        if not (folder / part).is_dir():
            raise UserError(f"{weights} has no folder {part}", f"copy it from where {folder.name} came from")
        pickled = sorted(path.name for path in (folder / part).glob("*.bin"))
        if pickled and not any((folder / part).glob("*.safetensors")):
            problem = f"{weights}/{part} holds no safetensors, only {pickled[0]}"
            raise UserError(problem, conversion(f"DiffusionPipeline.from_pretrained('{weights}')", f"{weights}-safe"))


def refuse_single_file(weights: str) -> None:
    """Raise UserError for a checkpoint in one file, with the command that makes a folder of it."""
    if Path(weights).expanduser().is_file():
        folder = Path(weights).with_suffix("")
        hint = conversion(f"StableDiffusionPipeline.from_single_file('{weights}')", str(folder))
        raise UserError(f"{weights} is one file, not a diffusers folder", hint)


def conversion(load: str, folder: str) -> str:
    """The command that writes a folder of safetensors; docs/weights.md names the other families' classes."""
    statements = f"import diffusers; diffusers.{load}.save_pretrained('{folder}')"
    return f'convert it: python -c "{statements}" ({documentation("weights.md")})'
