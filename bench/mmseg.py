"""A segmentor for mmsegmentation: its Runner and its IoUMetric evaluate a backbone and a method.

Importing this module registers ``SegscaleSegmentor`` in mmsegmentation's MODELS.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from numpy.typing import NDArray

from segscale.arguments import check_arguments
from segscale.catalogue import documentation
from segscale.errors import UserError
from segscale.prompt import BACKGROUND
from segscale.registry import build

from ..backbones.build import build_backbone
from ..backbones.loading.options import LoadOptions
from ..datasets.dataset import DatasetWithoutSamples, Sample
from ..datasets.files import read_image
from ..datasets.folder import mmseg_metainfo
from ..datasets.labels import IGNORE_LABEL
from ..datasets.mmseg_import import import_mmseg
from ..datasets.prompts.caption_file import CaptionTexts
from .inference.score import image_noise, score
from .runs.plan import build_methods
from .segmenter import check_threshold
from .tasks.task import Task

log = logging.getLogger(__name__)

MODELS = import_mmseg("registry").MODELS
DOCUMENTATION = f"see {documentation('mmsegmentation.md')}"


@dataclass(frozen=True)
class Counterpart:
    """mmsegmentation's dataset class with a dataset's classes."""

    dataset_class: str
    reduce_zero_label: bool
    """Whether it must drop label 0."""


COUNTERPARTS = {
    "voc": Counterpart("PascalVOCDataset", False),
    "context59": Counterpart("PascalContextDataset59", True),
    "context60": Counterpart("PascalContextDataset", False),
    "cityscapes": Counterpart("CityscapesDataset", False),
    "ade20k": Counterpart("ADE20KDataset", True),
}


class ForeignDataset(DatasetWithoutSamples):
    """Names and classes of a dataset whose files mmsegmentation reads."""

    split = "mmsegmentation"
    splits = ("mmsegmentation",)

    def __init__(self, name: str) -> None:
        if name not in COUNTERPARTS:
            raise UserError(
                f"mmsegmentation has no dataset class for {name!r}", f"there are: {', '.join(COUNTERPARTS)}"
            )
        self.name = self.benchmark = name
        self.counterpart = COUNTERPARTS[name]
        self.classes, self.palette = mmseg_metainfo(self.counterpart.dataset_class)
        self.background = 0 if self.classes[0] == BACKGROUND else None


@MODELS.register_module()
class SegscaleSegmentor(BaseModel):
    """Predicts ``pred_sem_seg`` of mmsegmentation's data samples as ``segscale run`` does, one by one.

    dataset: Segscale's name of it, a key of ``COUNTERPARTS``. seed: of the noise, which like the image follows from
    the file that ``img_path`` names, so transforms of the test pipeline change nothing. threshold: instead of the
    protocol's. weights: instead of the config's. load: fields of ``LoadOptions``; the device is the Runner's unless
    given. captions: a caption file.

    Where the protocol's class oracle is ``present``, the classes are those of ``gt_sem_seg``. Raises UserError for a
    protocol whose areas IoUMetric cannot reproduce, and for labels or images that are not the dataset's.
    """

    def __init__(
        self,
        backbone: str = "pocket-sd15",
        method: str = "vanilla",
        protocol: str = "standard",
        dataset: str = "voc",
        seed: int = 0,
        threshold: float | None = None,
        weights: str | None = None,
        load: Mapping[str, Any] | None = None,
        captions: str | None = None,
    ) -> None:
        super().__init__()
        check_arguments("load of SegscaleSegmentor", LoadOptions, load or {})
        self.dataset = ForeignDataset(dataset)
        self.task = task_for(protocol, self.dataset, threshold)
        self.captions = None if captions is None else CaptionTexts.read(Path(captions).expanduser())
        self.lacks_captions = False
        (self.method,) = build_methods([method], backbone, self.task.protocol)
        check_threshold(self.method, threshold)
        self.backbone = build_backbone(backbone, LoadOptions(**{"device": get_device(), **(load or {})}), weights)
        self.noise = image_noise(self.backbone, self.task, seed)

    def forward(
        self,
        inputs: object = None,
        data_samples: Sequence[Any] | None = None,
        mode: str = "tensor",
    ) -> list[Any]:
        """The data samples with ``pred_sem_seg``, int64 ``(1, height, width)``. inputs are not looked at."""
        if mode != "predict":
            raise UserError(f"SegscaleSegmentor has no mode {mode!r}, nothing is trained", "use Runner.test")
        if data_samples is None:
            raise UserError("SegscaleSegmentor needs data samples", "end the test pipeline with PackSegInputs")
        for data_sample in data_samples:
            labels = self.labels(self.sample(data_sample))
            data_sample.set_data({"pred_sem_seg": PixelData(data=torch.from_numpy(labels.astype(np.int64))[None])})
        return list(data_samples)

    def sample(self, data_sample: Any) -> Sample:
        """The sample as Segscale's own dataset has it. Raises UserError where the pipeline made another of it."""
        meta: dict[str, Any] = data_sample.metainfo
        if "img_path" not in meta:
            raise UserError("the data sample has no img_path", "keep it in meta_keys of PackSegInputs")
        path = Path(meta["img_path"])
        image = read_image(path)
        return Sample(path.stem, image, self._label(data_sample, path, image.size), self._caption(path))

    def labels(self, sample: Sample) -> NDArray[np.int16]:
        """Class id of every pixel, 255 where no class competes."""
        (scored,) = score(self.backbone, self.task, [self.method], [sample], self.noise)
        (answer,) = scored.by_method
        size = (sample.image.height, sample.image.width)
        return self.task.label_map(answer.scores, answer.prompts.class_ids, size)

    def _caption(self, path: Path) -> str | None:
        """The image's caption. The first that is missing is told, as the file may be of another split."""
        if self.captions is None:
            return None
        caption = self.captions.text_of(path.stem)
        if caption is None and not self.lacks_captions:
            self.lacks_captions = True
            log.warning("%s has no caption of %s; no further ones are told", self.captions.path, path.name)
        return caption

    def _label(self, data_sample: Any, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        if "gt_sem_seg" not in data_sample:
            protocol = self.task.protocol
            if protocol.class_oracle == "present":
                what = f"protocol {protocol.name} reads the classes of {path.name} from its label, which is not there"
                raise UserError(what, "put LoadAnnotations into the test pipeline, or name standard-full")
            return np.full(size[::-1], IGNORE_LABEL, np.uint8)
        label: NDArray[np.int64] = data_sample.gt_sem_seg.data[0].cpu().numpy()
        if label.shape != size[::-1] or data_sample.metainfo.get("flip"):
            raise UserError(f"the test pipeline changes the label of {path.name}", "put LoadAnnotations after Resize")
        reduced = self.dataset.counterpart.reduce_zero_label
        if data_sample.metainfo.get("reduce_zero_label", reduced) != reduced:
            self._other_labels(path, f"reduce_zero_label is not {reduced}")
        strange = label[(label >= len(self.dataset.classes)) & (label != IGNORE_LABEL)]
        if strange.size:
            self._other_labels(path, f"id {strange[0]} is none of {len(self.dataset.classes)} classes")
        return label.astype(np.uint8)

    def _other_labels(self, path: Path, why: str) -> NoReturn:
        expected = self.dataset.counterpart.dataset_class
        raise UserError(f"the label of {path.name} is not of {self.dataset.name}: {why}", f"test with {expected}")


def task_for(protocol_name: str, dataset: ForeignDataset, threshold: float | None = None) -> Task:
    """The protocol on ``dataset``, at ``threshold`` alone, or at its own.

    Raises:
        UserError: Where it has no threshold or IoUMetric would count other pixels.
    """
    protocol = build("protocol", protocol_name)
    has_background = dataset.background is not None
    expected = protocol.dataset_arguments(dataset.benchmark).get("background", has_background)
    task = Task.of(protocol, dataset)
    task = replace(task, protocol=task.protocol.at_threshold(threshold))
    refused = {
        "matches nameless clusters to classes": task.protocol.matching is not None,
        "counts ignored pixels as background": task.protocol.void == "background",
        "merges labels": bool(task.protocol.merged_labels),
        "reads what is present from annotations": task.protocol.present_from == "annotations",
        f"{'has' if expected else 'leaves out'} the background of {dataset.name}": expected != has_background,
        "does not score background": not task.protocol.background_scored and has_background,
    }
    for why, applies in refused.items():
        if applies:
            what = (
                f"protocol {protocol_name} {why}, which mmsegmentation's {dataset.counterpart.dataset_class} does not"
            )
            raise UserError(what, DOCUMENTATION)
    return task
