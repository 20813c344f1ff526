"""``pictures.json``: what a folder of drawn pictures is. Its hash names the folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from segscale.errors import StoreError
from segscale.files import explained_writes, replaced

from ..runs.identity import BackboneIdentity, content_digest
from ..runs.record import Machine, Sources
from .choices import GuidanceMethod, GuidanceReading

RECORD = "pictures.json"
WIDTH = 0.1
"""Of a blur, where none is named."""
_REMEDY = "remove the folder, or draw the pictures into another --results"


@dataclass(frozen=True)
class SamplingSettings:
    """Everything beside backbone and prompt that decides a picture."""

    image_size: int
    """Side in pixels."""
    steps: int
    """Inference steps of the backbone's scheduler."""
    guidance: float
    """Scale of guidance; 1 or less: the conditional prediction alone."""
    guidance_method: GuidanceMethod
    seed: int
    """With the prompt's id it gives the noise, or alone where that is shared."""
    reading: GuidanceReading = "published"
    """How segments for guidance are made."""
    site: str | None = None
    """The block that is perturbed, by methods that perturb one."""
    width: float | None = WIDTH
    """Of its blur, as a share of the image's side; None: infinite, which JSON cannot say."""
    shared_noise: bool = False
    """Whether the seed alone gives the noise, as in published code that seeds anew for every caption."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Of the backbone, as of ``SamplingDefaults``."""


@dataclass(frozen=True)
class PicturePlan:
    """Everything that can change a picture."""

    backbone: BackboneIdentity
    settings: SamplingSettings
    prompts: str
    """Dataset and split, or the name of the file."""
    prompts_digest: str
    """SHA-256 of all ids and prompts of that source."""
    version: str
    """Of Segscale."""

    @property
    def plan_id(self) -> str:
        """Hash of all of it, 12 hexadecimal digits."""
        content = asdict(self)
        if not self.settings.arguments:  # ids of pictures without any are those of versions that knew none
            del content["settings"]["arguments"]
        return content_digest(content)


@dataclass(frozen=True)
class StoredPictures:
    """Everything in ``pictures.json``."""

    plan: PicturePlan
    parameters: int | None
    """Of the denoiser; None until it was loaded."""
    machine: Machine
    """What started to draw."""
    sources: Sources
    plan_id: str


_ADAPTER = TypeAdapter(StoredPictures)


def write_record(folder: Path, stored: StoredPictures) -> None:
    """Write the record of a folder, whole or not at all."""
    with explained_writes(folder), replaced(folder / RECORD) as file:
        file.write(_ADAPTER.dump_json(stored, indent=2).decode() + "\n")


def read_record(folder: Path) -> StoredPictures:
    """Read the record of a folder.

    Raises:
        StoreError: Where it is missing, damaged, or names another plan than it holds.
    """
    path = folder / RECORD
    try:
        stored = _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})", _REMEDY) from error
    except ValidationError as error:
        raise StoreError(f"{path} is damaged or of another version", _REMEDY) from error
    if stored.plan_id != stored.plan.plan_id:
        raise StoreError(f"{path} does not match its id {stored.plan_id}", _REMEDY)
    return stored
