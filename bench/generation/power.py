"""Measures the generative power of a backbone: pictures for captions, looked at by networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from PIL.Image import Image

from segscale.errors import UserError
from segscale.registry import build, load_config

from ...backbones.loading.file_digests import digest
from ...datasets.dataset import Dataset
from ...datasets.files import read_image
from ..runs.options import RunOptions
from .choices import Networks
from .frechet import LEAST_PICTURES
from .judge import Judge
from .network_measures import ClipScorer, clip_measure, fid_measure, load_inception
from .pictures import PictureFolder, draw_pictures
from .power_record import Measure, PowerRecord, StoredPower, rows_digest
from .prompts import PicturePrompt, captions_of_dataset
from .record import SamplingSettings, read_record
from .twin_measures import twin_measures

POCKET = "pocket"
"""The benchmark whose pictures the shipped judge understands."""
LARGEST_JUDGED = 256
"""Side of pictures; twins draw 64 and 128 pixels, other backbones 512 or more."""


def is_judged(dataset_name: str, networks: Networks, image_size: int) -> bool:
    """Whether the shipped judge measures pictures of a dataset's captions, instead of the networks that are named.

    Args:
        dataset_name: Whose captions.
        networks: What is named.
        image_size: Of the pictures, in pixels.

    Raises:
        UserError: Where nothing was named that could measure, or networks that nothing reads; and for pictures of a
            size that no generated scene has, about which the judge knows nothing.
    """
    is_pocket = load_config("dataset", dataset_name).get("benchmark") == POCKET
    if not is_pocket and networks == Networks():
        hint = "name local weights: --inception FILE for the FID, --clip FOLDER for the CLIP score"
        raise UserError(f"nothing measures pictures of {dataset_name} without a network", hint)
    if is_pocket and networks != Networks():
        problem = f"the shipped judge measures pictures of {dataset_name}, so nothing reads --inception and --clip"
        raise UserError(problem, "leave them out")
    if is_pocket and image_size > LARGEST_JUDGED:
        problem = f"the shipped judge knows generated scenes, not pictures of {image_size} pixels"
        raise UserError(problem, "measure by networks: segscale power BACKBONE --dataset coco-object --clip FOLDER")
    return is_pocket


def draw_to_measure(
    backbone_name: str, dataset_name: str, settings: SamplingSettings, networks: Networks, options: RunOptions
) -> DrawnCaptions:
    """Draw what is missing of the pictures for the captions of a dataset, beside other processes that do.

    Raises:
        UserError: See ``is_judged``, and where there are fewer than three captions.
    """
    is_pocket = is_judged(dataset_name, networks, settings.image_size)
    prompts = captions_of_dataset(dataset_name, options)
    wanted = prompts.first(options.limit)
    refuse_few(len(wanted))
    folder = draw_pictures(backbone_name, prompts, settings, options)
    dataset = build("dataset", dataset_name, **options.dataset_arguments)
    return DrawnCaptions(folder, dataset, wanted, is_pocket, options.load.device)


def refuse_few(count: int) -> None:
    """Raise UserError where pictures are too few to be measured."""
    if count < LEAST_PICTURES:
        problem = f"pictures of {count} captions do not suffice, {LEAST_PICTURES} are needed"
        raise UserError(problem, "raise --limit, --pictures of: segscale lora-gain, or --generate of: segscale perturb")


@dataclass(frozen=True)
class _Measured:
    by: dict[str, str]
    measures: dict[str, Measure]
    pictures: pd.DataFrame


@dataclass(frozen=True)
class DrawnCaptions:
    """Pictures, and the real images of their captions."""

    folder: PictureFolder
    dataset: Dataset
    prompts: Sequence[PicturePrompt]
    is_pocket: bool
    """Whether the shipped judge understands them."""
    device: str

    def measured(self, networks: Networks) -> StoredPower:
        """Pictures of pocket scenes as the shipped judge sees them, all others as the networks that are named do."""
        measured = self._by_judge() if self.is_pocket else self._by(networks)
        stored = read_record(self.folder.folder)
        record = PowerRecord(
            plan=stored.plan,
            plan_id=stored.plan_id,
            parameters=stored.parameters,
            images=len(self.prompts),
            measured_by=measured.by,
            measures=measured.measures,
            pictures_digest=rows_digest(measured.pictures),
        )
        return StoredPower(record, measured.pictures)

    def _pictures(self) -> Iterator[Image]:
        return (read_image(self.folder.path(prompt.id)) for prompt in self.prompts)

    def _real(self) -> Iterator[Image]:
        places = {id: index for index, id in enumerate(self.dataset.ids)}
        return (self.dataset[places[prompt.id]].image for prompt in self.prompts)

    def _by_judge(self) -> _Measured:
        judge = Judge()
        measures, pictures = twin_measures(judge, self.prompts, [*self._pictures()], [*self._real()])
        return _Measured({"judge": judge.id}, measures, pictures)

    def _by(self, networks: Networks) -> _Measured:
        by: dict[str, str] = {}
        measures: dict[str, Measure] = {}
        pictures = pd.DataFrame({"id": [prompt.id for prompt in self.prompts]})
        if networks.inception is not None:
            network = load_inception(networks.inception, self.device)
            by["inception"] = digest(networks.inception)
            measures["fid"] = fid_measure(network, self._pictures(), self._real())
        if networks.clip is not None:
            by["clip"] = networks.clip
            measures["clip_score"], pictures = clip_measure(
                ClipScorer(networks.clip, self.device), self.prompts, self._pictures()
            )
        return _Measured(by, measures, pictures)
