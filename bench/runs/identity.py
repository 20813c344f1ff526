"""The run plan: every setting that affects a stored number. Its hash is the run id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..tasks.identity import TaskIdentity

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

IDENTITY_LENGTH = 12
LORA, UNTRAINED = " + LoRA ", " (untrained)"
"""What stands behind a backbone's name."""
LABEL_DIGITS = 4


@dataclass(frozen=True)
class BackboneIdentity:
    """The network whose attention is read."""

    name: str
    weights: str
    """Hub id and commit, or a hash over the files of a folder, see ``WeightsId``."""
    dtype: str
    text_dtype: str
    variant: str | None
    """Of the weight files, such as ``fp16``."""
    quantize: str | None
    lora: str | None
    """Digest of the LoRA that is merged into the denoiser."""
    untrained: bool
    """Whether the denoiser has random weights."""
    packaged: bool
    """Whether the weights are carried by the package: a pocket twin."""
    options: dict[str, JsonValue]
    """All other arguments of its config."""

    @property
    def label(self) -> str:
        """The name, as tables show it."""
        return backbone_label(self.name, self.lora, self.untrained)

    @property
    def training(self) -> str:
        """What it was taught with beside pictures and captions: ``none``, ``masks`` or ``labels``."""
        return str(self.options.get("training", "none"))


@dataclass(frozen=True)
class MethodIdentity:
    """The method that turns attention into scores."""

    name: str
    variant: str
    normalised: bool
    """Whether scores lie in [0, 1], rather than being raw attention."""
    attention: str | None
    """The kind that is read where that is not what its paper reads."""
    parameters: dict[str, JsonValue]
    """All fields of the method."""

    @property
    def label(self) -> str:
        """Name and variant, and the attention that is read, as tables show them."""
        kind = " (cross-attention)" if self.attention == "cross" else ""
        return f"{self.name}{self.variant}{kind}"


@dataclass(frozen=True)
class RunPlan:
    """A resolved run."""

    backbone: BackboneIdentity
    method: MethodIdentity
    task: TaskIdentity
    seed: int
    """Of the noise."""
    version: str
    """Of Segscale."""

    @property
    def run_id(self) -> str:
        """Hash of all settings, 12 hexadecimal digits."""
        return plan_digest(self)


def plan_digest(plan: DataclassInstance) -> str:
    """Hash of all fields, 12 hexadecimal digits."""
    return content_digest(asdict(plan))


def content_digest(content: Mapping[str, object]) -> str:
    """Hash of what JSON can hold, 12 hexadecimal digits."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:IDENTITY_LENGTH]


def backbone_label(name: str, lora: str | None, untrained: bool) -> str:
    """A backbone as tables and lists show it."""
    taught = "" if lora is None else f"{LORA}{lora[:LABEL_DIGITS]}"
    return f"{name}{taught}{UNTRAINED if untrained else ''}"
