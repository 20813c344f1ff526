"""A folder of pictures drawn for prompts. A killed command, typed again, draws what is missing."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL.Image import Image
from tqdm import tqdm

import segscale
from segscale.errors import UserError
from segscale.files import explained_writes, remove_leftovers, replaced, replaced_bytes

from ...backbones.backbone import Backbone
from ..inference.batch import BatchLimit
from ..inference.memory import PeakMemory
from ..runs.conditions import machine
from ..runs.launcher import is_rank_zero, rank_and_world
from ..runs.leases import HeldLease
from ..runs.options import RunOptions
from ..runs.plan import BackbonePlan, plan_backbone
from ..runs.record import Sources
from ..runs.share import own_first, waiting_times
from .prompts import PicturePrompt, PromptList
from .record import RECORD, PicturePlan, SamplingSettings, StoredPictures, read_record, write_record
from .rules import guidance_rule
from .sampling import draw

FOLDER = "pictures"
PROMPTS = "prompts.csv"


@dataclass(frozen=True)
class PictureFolder:
    """Where the pictures of one plan are."""

    folder: Path

    def path(self, id: str) -> Path:
        """The picture of a prompt; an id with slashes is in folders below."""
        return self.folder / f"{id}.png"

    def missing(self, prompts: Sequence[PicturePrompt]) -> list[PicturePrompt]:
        """Prompts without a picture."""
        return [prompt for prompt in prompts if not self.path(prompt.id).is_file()]

    def keep(self, id: str, picture: Image) -> None:
        """Write one picture, whole or not at all."""
        path = self.path(id)
        with explained_writes(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_bytes(path) as file:
                picture.save(file, "PNG")


def draw_pictures(
    backbone_name: str, prompts: PromptList, settings: SamplingSettings, options: RunOptions
) -> PictureFolder:
    """Draw what a folder lacks of the first ``options.limit`` prompts.

    Processes that draw the same share the prompts, and end when every one has its picture.

    Raises:
        UserError: For an id that names no file below the folder, or weights that are missing.
    """
    planned = plan_backbone(backbone_name, options)
    plan = PicturePlan(planned.identity, settings, prompts.source, prompts.digest, segscale.__version__)
    pictures = PictureFolder(options.results / FOLDER / backbone_name / prompts.source / plan.plan_id)
    wanted = prompts.first(options.limit)
    _refuse_strange_ids(wanted)
    with explained_writes(pictures.folder):
        pictures.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(pictures.folder.rglob(".*.tmp"))
    if not (pictures.folder / RECORD).exists():
        record = StoredPictures(plan, None, machine(), Sources.of(options), plan.plan_id)
        write_record(pictures.folder, record)
    if is_rank_zero():
        others = prompts.prompts[len(wanted) :]
        _note(pictures.folder, [*wanted, *(prompt for prompt in others if pictures.path(prompt.id).is_file())])
    if pictures.missing(wanted):
        _draw_missing(planned, wanted, settings, pictures)
    return pictures


def _draw_missing(
    planned: BackbonePlan, wanted: Sequence[PicturePrompt], settings: SamplingSettings, pictures: PictureFolder
) -> None:
    backbone = planned.load(**settings.arguments)
    guidance = guidance_rule(settings, backbone)
    _note_parameters(pictures.folder, backbone)
    title = f"{backbone.name}, {settings.guidance_method} {settings.guidance:g}, {settings.steps} steps"
    limit, memory = BatchLimit(planned.options.batch), PeakMemory(backbone.device)
    lease = HeldLease(planned.options.results, [pictures.folder.name])
    with lease, tqdm(total=len(pictures.missing(wanted)), desc=title, unit="picture") as progress:

        def work(batch: Sequence[PicturePrompt]) -> None:
            for prompt, picture in zip(batch, draw(backbone, batch, settings, guidance), strict=True):
                pictures.keep(prompt.id, picture)
            limit.fit(memory)
            progress.update(len(batch))

        if memory.is_limited:
            memory.reset()
        for claimed in _claimed(wanted, pictures, lease, limit):
            limit.over(claimed, work)


def _claimed(
    wanted: Sequence[PicturePrompt], pictures: PictureFolder, lease: HeldLease, limit: BatchLimit
) -> Iterator[list[PicturePrompt]]:
    """Prompts that no other process holds, a batch at a time, until all have a picture, whoever draws it."""

    def open_places(places: Sequence[int]) -> list[int]:
        return [place for place in places if not pictures.path(wanted[place].id).is_file()]

    rank, world = rank_and_world()
    due, waits = open_places(own_first(range(len(wanted)), rank, world)), waiting_times()
    while due:
        claimed = lease.claim(due, limit.rows)
        # Others may have drawn them before they were claimed.
        missing = open_places(claimed)
        if missing:
            yield [wanted[place] for place in missing]
        lease.release(claimed)
        due = [place for place in due if place not in claimed] if missing else open_places(due)
        if due and not claimed:
            time.sleep(next(waits))


def _note(folder: Path, prompts: Sequence[PicturePrompt]) -> None:
    """Write the prompts that are asked for or drawn."""
    with explained_writes(folder), replaced(folder / PROMPTS) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("id", "prompt"))
        rows.writerows((prompt.id, prompt.text) for prompt in prompts)


def _note_parameters(folder: Path, backbone: Backbone) -> None:
    stored = read_record(folder)
    parameters = sum(parameter.numel() for parameter in backbone.denoiser.parameters())
    if stored.parameters != parameters:
        write_record(folder, replace(stored, parameters=parameters))


def _refuse_strange_ids(prompts: Sequence[PicturePrompt]) -> None:
    for prompt in prompts:
        path = Path(prompt.id)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"the id {prompt.id!r} names no file below a folder", "rename the image")
