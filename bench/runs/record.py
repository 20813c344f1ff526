"""``run.json``: what a stored run is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from segscale.errors import OtherFormatError, StoreError
from segscale.files import json_checksum

from ...datasets.prompts.caption_file import CaptionGaps
from ..tasks.identity import TableRules
from .identity import RunPlan, backbone_label
from .options import RunOptions

FORMAT = 4
"""Of run.json and parts. Runs of another format are named and passed over."""
REMEDY = "give the command that made it again: its images are kept"
"""For a run.json that cannot be read."""


@dataclass(frozen=True)
class Machine:
    """A machine and its software."""

    platform: str
    processor: str
    cores: int
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that numbers depend on."""


@dataclass(frozen=True)
class Sources:
    """Where data and weights were read, as the last command named them; None where the config decides."""

    data_root: str | None = None
    captions: str | None = None
    weights: str | None = None
    revision: str | None = None
    """Of the hub repository."""
    lora: str | None = None
    """Its folder."""

    @classmethod
    def of(cls, options: RunOptions) -> Sources:
        """Those of ``options``; paths hold from everywhere."""
        return cls(
            data_root=_from_everywhere(options.data_root),
            captions=_from_everywhere(options.captions),
            weights=_from_everywhere(options.weights),
            revision=options.load.revision,
            lora=_from_everywhere(options.load.lora),
        )


def _from_everywhere(place: str | Path | None) -> str | None:
    """A path that is there as an absolute one, a hub id as it is."""
    if place is None or not Path(place).expanduser().exists():
        return None if place is None else str(place)
    return str(Path(place).expanduser().absolute())


@dataclass(frozen=True)
class StoredRun:
    """Everything in ``run.json``."""

    run_id: str
    plan: RunPlan
    table_rules: TableRules
    classes: tuple[str, ...]
    """Names in the order of stored counts."""
    background_id: int | None
    split_images: int
    """Images of the whole split."""
    machine: Machine
    """What started the run; ``read_conditions`` has all that computed images."""
    wanted: int = 0
    """Images that the last command asked for."""
    captions: CaptionGaps | None = None
    """What the caption file leaves out, where one was named."""
    parameters: int | None = None
    """Of the denoiser."""
    sources: Sources = Sources()
    format: int = FORMAT


@dataclass(frozen=True)
class _Named:
    """The part of an identity that a line of ``segscale status`` shows."""

    name: str
    variant: str | None = None
    untrained: bool = False
    lora: str | None = None
    split: str = ""


@dataclass(frozen=True)
class _BriefTask:
    dataset: _Named
    protocol: _Named


@dataclass(frozen=True)
class _BriefPlan:
    backbone: _Named
    method: _Named
    task: _BriefTask
    seed: int


@dataclass(frozen=True)
class RunBrief:
    """What a list of very many runs shows of each; it is not verified."""

    run_id: str
    plan: _BriefPlan
    wanted: int

    @property
    def label(self) -> str:
        """The run in a sentence."""
        plan, dataset, protocol = self.plan, self.plan.task.dataset, self.plan.task.protocol
        backbone = backbone_label(plan.backbone.name, plan.backbone.lora, plan.backbone.untrained)
        seed = f", seed {plan.seed}" if plan.seed else ""
        task = f"{dataset.name} {dataset.split} ({protocol.name}{protocol.variant or ''}{seed})"
        return f"{backbone} x {plan.method.name}{plan.method.variant or ''} on {task}"


_BRIEF = TypeAdapter(RunBrief)


def parse_brief(text: bytes) -> RunBrief | None:
    """The run that ``text`` describes, None where it describes none; a twentieth of the time of ``parse_run``."""
    try:
        return _BRIEF.validate_json(text)
    except ValidationError:
        return None


_ADAPTER = TypeAdapter(StoredRun)
CHECKSUM = "checksum"


def parse_run(text: bytes, path: str) -> StoredRun:
    """The run that ``text`` describes; ``path`` names it. Raises StoreError for another format or any change."""
    try:
        run = _ADAPTER.validate_json(text)
    except ValidationError as error:
        _refuse_other_format(_format_of(text), path)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "contents"
        raise StoreError(f"{path} is not of format {FORMAT} ({place}: {first['msg']})", REMEDY) from error
    _refuse_other_format(run.format, path)
    if run.run_id != run.plan.run_id:
        raise StoreError(f"{path} does not match its run id {run.run_id}", REMEDY)
    content = json.loads(text)
    if content.pop(CHECKSUM, None) != json_checksum(content):
        raise StoreError(f"{path} is not as it was written", REMEDY)
    return run


def _format_of(text: bytes) -> int:
    """What a file says that is no valid run; the format of today where it says nothing."""
    try:
        content = json.loads(text)
    except ValueError:
        return FORMAT
    stated = content.get("format", FORMAT) if isinstance(content, dict) else FORMAT
    return stated if isinstance(stated, int) else FORMAT


def _refuse_other_format(stated: int, path: str) -> None:
    if stated != FORMAT:
        hint = "choose another --results; runs of another format are read by the version that made them"
        raise OtherFormatError(f"{path} is of format {stated}, this version reads {FORMAT}", hint)


def run_text(run: StoredRun) -> str:
    """The JSON of ``run``."""
    content = _ADAPTER.dump_python(run, mode="json")
    return json.dumps(content | {CHECKSUM: json_checksum(content)}, indent=2) + "\n"
