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
from .frechet import LEAST
from .judge import Judge
from .network_measures import ClipScorer, clip_measure, fid_measure, load_inception
from .pictures import PictureFolder, draw_pictures
from .power_record import Measure, PowerRecord, StoredPower, pictures_digest
from .prompts import PicturePrompt, captions_of_dataset, first
from .record import SamplingSettings, read_record
from .twin_measures import twin_measures

POCKET = "pocket"
"""The benchmark whose pictures the shipped judge understands."""


def measure_power(
    backbone_name: str, dataset_name: str, settings: SamplingSettings, networks: Networks, options: RunOptions
) -> StoredPower:
    """Draw what is missing of the pictures for the captions of a dataset, and measure them.

    Captions of pocket scenes are judged by the shipped judge, all others by the networks that are named.

    Raises:
        UserError: Where nothing was named that could measure, or fewer than three captions.
    """
    is_pocket = load_config("dataset", dataset_name).get("benchmark") == POCKET
    if not is_pocket and networks == Networks():
        hint = "name local weights: --inception FILE for the FID, --clip FOLDER for the CLIP score"
        raise UserError(f"nothing measures pictures of {dataset_name} without a network", hint)
    prompts = captions_of_dataset(dataset_name, options)
    wanted = first(prompts, options.limit)
    if len(wanted) < LEAST:
        raise UserError(f"pictures of {len(wanted)} captions do not suffice, {LEAST} are needed", "raise --limit")
    folder = draw_pictures(backbone_name, prompts, settings, options)
    looked = _Looking(folder, build("dataset", dataset_name, **options.dataset_arguments), wanted)
    measured = looked.by_judge() if is_pocket else looked.by(networks, options.load.device)
    stored = read_record(folder.folder)
    record = PowerRecord(
        plan=stored.plan,
        plan_id=stored.plan_id,
        parameters=stored.parameters,
        images=len(wanted),
        measured_by=measured.by,
        measures=measured.measures,
        pictures_digest=pictures_digest(measured.pictures),
    )
    return StoredPower(record, measured.pictures)


@dataclass(frozen=True)
class _Measured:
    by: dict[str, str]
    measures: dict[str, Measure]
    pictures: pd.DataFrame


@dataclass(frozen=True)
class _Looking:
    """Pictures, and the real images of their captions."""

    folder: PictureFolder
    dataset: Dataset
    prompts: Sequence[PicturePrompt]

    def pictures(self) -> Iterator[Image]:
        return (read_image(self.folder.path(prompt.id)) for prompt in self.prompts)

    def real(self) -> Iterator[Image]:
        places = {id: index for index, id in enumerate(self.dataset.ids)}
        return (self.dataset[places[prompt.id]].image for prompt in self.prompts)

    def by_judge(self) -> _Measured:
        judge = Judge()
        measures, pictures = twin_measures(judge, self.prompts, [*self.pictures()], [*self.real()])
        return _Measured({"judge": judge.id}, measures, pictures)

    def by(self, networks: Networks, device: str) -> _Measured:
        by: dict[str, str] = {}
        measures: dict[str, Measure] = {}
        pictures = pd.DataFrame({"id": [prompt.id for prompt in self.prompts]})
        if networks.inception is not None:
            network = load_inception(networks.inception, device)
            by["inception"] = digest(networks.inception)
            measures["fid"] = fid_measure(network, self.pictures(), self.real())
        if networks.clip is not None:
            by["clip"] = networks.clip
            measures["clip_score"], pictures = clip_measure(
                ClipScorer(networks.clip, device), self.prompts, self.pictures()
            )
        return _Measured(by, measures, pictures)
