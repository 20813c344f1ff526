"""Low-rank adapters (LoRA, arXiv 2106.09685) of a denoiser: injected by peft to be trained, merged to be evaluated.

Files are those of diffusers, so that its pipelines load them, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from segscale.catalogue import documentation
from segscale.errors import UserError
from segscale.files import replaced_bytes

from .file_digests import remembered_digests
from .options import LoadOptions, Training, check_change

if TYPE_CHECKING:
    from collections.abc import Iterator

LORA_FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
TRAINING = "training"
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
SPELLINGS = {
    ".lora_A.default.weight": DOWN,
    ".lora_B.default.weight": UP,
    ".lora.down.weight": DOWN,
    ".lora.up.weight": UP,
    ".lora_down.weight": DOWN,
    ".lora_up.weight": UP,
}
"""Ends of names, as peft keeps them in a model and as older diffusers wrote them."""

NOT_READ = ("use_rslora", "alpha_pattern")
"""Fields of peft's configuration that scale layers otherwise than by alpha / rank."""
_DIGITS = 12


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter: W becomes W + alpha / rank * up @ down at every module it names."""

    tensors: Mapping[str, Tensor]
    """``<module>.lora_A.weight (rank, in)`` and ``<module>.lora_B.weight (out, rank)``."""
    rank: int
    alpha: float
    training: Training = "none"
    """What it was taught with beside pictures and captions."""

    @property
    def modules(self) -> list[str]:
        """Qualified names of the layers that it changes."""
        return sorted({name.removesuffix(DOWN) for name in self.tensors if name.endswith(DOWN)})


def add_lora(denoiser: nn.Module, modules: Sequence[str], rank: int, alpha: float) -> list[nn.Parameter]:
    """Put a new adapter beside ``modules``, which changes nothing yet, and return what of it is trained.

    The adapter is of float32 whatever the denoiser is of: in half precision most steps of training would be lost.

    Raises:
        UserError: Where peft is not installed.
    """
    with _peft():
        from peft import LoraConfig, inject_adapter_in_model
    # Of a list, a name would also stand for every module whose own ends with it.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, modules)))  # pyright: ignore[reportArgumentType]
    inject_adapter_in_model(config, denoiser)
    added = [parameter for name, parameter in denoiser.named_parameters() if ".lora_" in name]
    for parameter in added:
        parameter.data = parameter.data.float()
    return added


def lora_tensors(denoiser: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors as ``Lora`` names them, in float32 on the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(denoiser)
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in sorted(state.items())}


def set_lora_tensors(denoiser: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into an adapter that was added. Raises UserError where they are not its own."""
    from peft import set_peft_model_state_dict

    own = {name: tensor.shape for name, tensor in lora_tensors(denoiser).items()}
    if own != {name: tensor.shape for name, tensor in tensors.items()}:
        raise UserError("the LoRA does not fit this denoiser", "name the backbone that it was made for")
    set_peft_model_state_dict(denoiser, dict(tensors))


def merge_lora(denoiser: nn.Module, lora: Lora) -> None:
    """Add an adapter to the denoiser's weights, so that its modules, and what observes them, stay as they are.

    Raises:
        UserError: Where the denoiser has no such layers, or peft is not installed.
    """
    layers = dict(denoiser.named_modules())
    for name in lora.modules:
        if not isinstance(layers.get(name), nn.Linear):
            raise UserError(
                f"the LoRA changes {name}, which this denoiser does not have", "name the backbone that it was made for"
            )
    add_lora(denoiser, lora.modules, lora.rank, lora.alpha)
    set_lora_tensors(denoiser, lora.tensors)
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in [*denoiser.named_modules()]:
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            denoiser.set_submodule(name, layer.get_base_layer())
    del denoiser.peft_config


def save_lora(folder: Path, part: str, lora: Lora) -> Path:
    """Write an adapter of the pipeline's ``part`` as diffusers' pipelines read it; returns the file."""
    config = {"r": lora.rank, "lora_alpha": lora.alpha, "target_modules": lora.modules}
    stated = {f"{part}.{key}": value for key, value in config.items()} | {TRAINING: lora.training}
    # In one entry: safetensors writes several in any order, and equal adapters must be equal files.
    metadata = {METADATA: json.dumps(stated, sort_keys=True)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LORA_FILE
    with replaced_bytes(path) as file:
        file.write(save({f"{part}.{name}": tensor for name, tensor in lora.tensors.items()}, metadata))
    return path


def read_lora(folder: str, part: str) -> Lora:
    """Read an adapter of the pipeline's ``part`` from a folder. Raises UserError for what would not be merged."""
    path = lora_file(folder)
    with _readable(path) as file:
        config = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if others := [name for name in tensors if not name.startswith(f"{part}.")]:
        hint = f"name a backbone that it was made for, or a LoRA of the {part} alone"
        raise UserError(f"{path} holds {min(others)}, which is no part of the {part}", hint)
    if unread := [field for field in NOT_READ if config.get(f"{part}.{field}")]:
        raise UserError(f"{path} was made with {unread[0]}, which is not read", "name a LoRA of one alpha and rank")
    tensors = {respelled(name.removeprefix(f"{part}.")): tensor for name, tensor in tensors.items()}
    lora = checked_lora(tensors, config.get(f"{part}.lora_alpha"), str(path))
    return replace(lora, training=lora_training(folder))


def respelled(name: str) -> str:
    """A tensor's name with its end as ``Lora`` has it."""
    end = next((theirs for theirs in SPELLINGS if name.endswith(theirs)), "")
    return name.removesuffix(end) + SPELLINGS.get(end, "")


def lora_training(folder: str) -> Training:
    """What the adapter in a folder was taught with, as its file says; ``none`` where it says nothing."""
    with _readable(lora_file(folder)) as file:
        stated = json.loads((file.metadata() or {}).get(METADATA, "{}")).get(TRAINING)
    return next((training for training in get_args(Training) if training == stated), "none")


def checked_lora(tensors: Mapping[str, Tensor], alpha: float | None, origin: str) -> Lora:
    """An adapter of these tensors; without alpha it is the rank. Raises UserError for tensors that are none."""
    downs = {name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
    ups = {name.removesuffix(UP) for name in tensors if name.endswith(UP)}
    ranks = {tensors[name + DOWN].shape[0] for name in downs}
    if not downs or downs != ups or len(downs) + len(ups) != len(tensors) or len(ranks) != 1:
        hint = f"pickles of Seg4Diff are converted by: segscale convert-lora, see {documentation('alignment.md')}"
        raise UserError(f"{origin} holds no LoRA of one rank for this backbone", hint)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise UserError(f"{origin} holds tensors that are not finite", "copy it anew from where it came")
    (rank,) = ranks
    return Lora(tensors, rank, float(rank if alpha is None else alpha))


def lora_file(folder: str) -> Path:
    """The file of an adapter. Raises UserError where the folder has none."""
    path = Path(folder).expanduser() / LORA_FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no LoRA (no {LORA_FILE})", "make one with: segscale align BACKBONE FOLDER")
    return path


def lora_id(load: LoadOptions) -> str | None:
    """A digest over the adapter's file, None where none is loaded; what cannot be merged is refused."""
    if load.lora is None:
        return None
    check_change("a LoRA cannot be merged", load)
    (digest,) = remembered_digests([lora_file(load.lora)])
    return digest[:_DIGITS]


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    """Open a file of tensors, and say what is wrong with it."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})", "copy it anew from where it came") from error


@contextmanager
def _peft() -> Iterator[None]:
    """Say how to install peft where it is missing."""
    try:
        yield
    except ImportError as error:
        raise UserError("a LoRA needs peft", "in the clone: pip install -e '.[alignment]'") from error
