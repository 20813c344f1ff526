"""What an alignment resumes from: one file of tensors, beside the LoRA that backbones load; and whose state it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from segscale.errors import UserError
from segscale.files import explained_writes, replaced_bytes

from ...backbones.loading.lora import LORA_FILE, save_lora, set_lora_tensors
from .alignment import Alignment, StepLosses

STATE_FILE = "training.safetensors"
LORA, HEAD, OPTIMISER, LOSSES, SCALE = "lora.", "head.", "optimiser.", "losses", "scale"


@dataclass(frozen=True)
class Checkpoint:
    """The folder of one alignment."""

    folder: Path
    identity: dict[str, JsonValue]
    """Everything that its numbers follow from; a folder of another identity is refused."""

    @property
    def path(self) -> Path:
        """The file of tensors."""
        return self.folder / STATE_FILE

    def save(self, alignment: Alignment, losses: list[StepLosses]) -> None:
        """Write the state after as many steps as there are losses, then the LoRA, which ``resume`` can make of it."""
        lora = alignment.lora
        tensors = {LORA + name: tensor for name, tensor in lora.tensors.items()}
        tensors |= {HEAD + name: tensor.cpu() for name, tensor in alignment.head.state_dict().items()}
        for number, parameter in enumerate(alignment.trained):
            for name, tensor in alignment.optimiser.state[parameter].items():
                tensors[f"{OPTIMISER}{number}.{name}"] = tensor.cpu()
        if scaler := alignment.scaler.state_dict():
            tensors[SCALE] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        tensors[LOSSES] = torch.tensor([[*asdict(each).values()] for each in losses], dtype=torch.float64)
        with explained_writes(self.folder, "folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced_bytes(self.path) as file:
                file.write(save(tensors, {"identity": json.dumps(self.identity, sort_keys=True)}))
            save_lora(self.folder, alignment.backbone.denoiser_part, lora)

    def resume(self, alignment: Alignment) -> list[StepLosses]:
        """Put the stored state into ``alignment``; the losses of the steps it took, none where nothing is stored.

        A kill may have left no LoRA, or an older one, beside the state, so that it is written again.

        Raises:
            UserError: For a folder of another alignment or LoRA, or a damaged file.
        """
        if not self.path.exists():
            if (self.folder / LORA_FILE).exists():
                raise UserError(f"{self.folder} holds a LoRA that no alignment left there", "choose another folder")
            return []
        tensors = self._read()
        set_lora_tensors(alignment.backbone.denoiser, _below(LORA, tensors))
        alignment.head.load_state_dict(_below(HEAD, tensors))
        for number, parameter in enumerate(alignment.trained):
            # The optimiser counts its steps on the CPU. With --offload parameters lie there until they are used.
            alignment.optimiser.state[parameter] = {
                name: tensor if name == "step" else tensor.to(alignment.backbone.device)
                for name, tensor in _below(f"{OPTIMISER}{number}.", tensors).items()
            }
        if SCALE in tensors:
            scale, steps = tensors[SCALE].tolist()
            state = alignment.scaler.state_dict() | {"scale": scale, "_growth_tracker": int(steps)}
            alignment.scaler.load_state_dict(state)
        with explained_writes(self.folder, "folder"):
            save_lora(self.folder, alignment.backbone.denoiser_part, alignment.lora)
        return [StepLosses(*row) for row in tensors[LOSSES].tolist()]

    def _read(self) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                stored = json.loads((file.metadata() or {})["identity"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UserError(f"{self.path} is damaged ({error})", "remove it to begin anew") from error
        refuse_other(f"{self.folder} holds another alignment", stored, self.identity, "choose another folder")
        return tensors


def refuse_other(problem: str, stored: Mapping[str, JsonValue], identity: Mapping[str, JsonValue], hint: str) -> None:
    """Raise UserError, naming what differs, where the state of a training is not of this identity."""
    changed = sorted(key for key in stored.keys() | identity if stored.get(key) != identity.get(key))
    if changed:
        raise UserError(f"{problem} ({', '.join(changed)} differ)", hint)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
