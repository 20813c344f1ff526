"""How near a run comes to the rate of its device, shown on any machine by a stand-in for the model.

The stand-in sleeps for every image, as a processor does that waits for a GPU. All else is real: files are decoded,
methods share forwards, pixels are counted at every threshold and parts are written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor, nn

from segscale.prompt import Prompt
from segscale.registry import build

from ...backbones.attention.maps import AttentionMaps
from ...backbones.attention.requests import MapRequest
from ...backbones.attention.sites import Grid, Site
from ...backbones.backbone import Backbone
from ...backbones.latents.noise import NoiseLevel
from ...backbones.latents.settings import CaptureSettings, Timestep
from ...backbones.loading.weights_id import WeightsId
from ...backbones.text.conditioning import Conditioning
from ...backbones.text.tokens import StreamTokens
from ...methods.method import ClassScores, Method
from ..runs.identity import BackboneIdentity
from ..runs.loop import run_planned
from ..runs.options import RunOptions
from ..runs.plan import BackbonePlan
from ..tasks.task import Task
from .pace import Pace
from .throughput import LOADS, SCORE_SIDE, Load, LoadPictures

FILES = 20
"""Different pictures; a run meets each of them many times."""


@dataclass(frozen=True)
class PipelineRate:
    """Images per second of one load, by the clock."""

    load: Load
    workers: int
    device: float
    """What the stand-in alone could do."""
    run: float
    """What the whole run did, from its start to the last part on disk; what Python imports on the way is in it."""
    steady: float
    """What it did from the first image's forward to the last one's."""

    @property
    def share(self) -> float:
        """Of the device's time that was not spent waiting."""
        return self.run / self.device


def pipeline_rates(pace: Pace, workers: int, folder: Path | None = None) -> list[PipelineRate]:
    """Rates of every load, without workers and with so many.

    Args:
        pace: Of the stand-in's runs.
        workers: Threads that read ahead, and as many that count behind.
        folder: For pictures and runs; a temporary one by default.
    """
    if folder is None:
        with TemporaryDirectory() as name:
            return pipeline_rates(pace, workers, Path(name))
    return [
        _rate(pace, load, number, folder / load.name / str(number))
        for load in LOADS
        for number in dict.fromkeys((0, workers))
    ]


def _rate(pace: Pace, load: Load, workers: int, folder: Path) -> PipelineRate:
    folder.mkdir(parents=True)
    task = Task.of(build("protocol", "standard"), LoadPictures(load, folder, FILES, pace.images))
    backbone = _StandIn(pace.seconds)
    options = RunOptions(results=folder, workers=workers, batch=pace.batch)
    start = time.perf_counter()
    run_planned(
        _StandInPlan(_IDENTITY, WeightsId("stand-in"), options, backbone), [_FixedScores(name="stand-in")], task
    )
    rate = pace.images / (time.perf_counter() - start)
    (first, _), (last, rows) = backbone.forwards[0], backbone.forwards[-1]
    steady = (pace.images - rows) / max(last - first, pace.seconds)
    return PipelineRate(load, workers, 1 / pace.seconds, rate, steady)


_LATENT = torch.zeros(1, 1, 1, 1)
_IDENTITY = BackboneIdentity("stand-in", "stand-in", "float32", "float32", None, None, None, True, False, {})


@dataclass(frozen=True)
class _StandInPlan(BackbonePlan):
    backbone: Backbone

    def load(self, **arguments: object) -> Backbone:
        return self.backbone


class _StandIn(Backbone):
    """A backbone whose forwards take their time and see nothing."""

    def __init__(self, seconds: float) -> None:
        self.name, self.seconds = "stand-in", seconds
        self.forwards: list[tuple[float, int]] = []
        """When each began, and of how many images."""

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def denoiser(self) -> nn.Module:
        return nn.Identity()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def sites_on(self, grid: Grid) -> tuple[Site, ...]:
        return ()

    def sites(self, image_size: int) -> tuple[Site, ...]:
        return ()

    def encode_text(self, texts: list[str]) -> Conditioning:
        return Conditioning({"text": torch.zeros(len(texts), 1)})

    def tokenize(self, prompt: Prompt) -> tuple[StreamTokens, ...]:
        columns = tuple((number,) for number in range(len(prompt.classes)))
        return (StreamTokens("text", 0, len(columns), columns, (), (), ()),)

    def noise_level(self, settings: CaptureSettings) -> NoiseLevel:
        return NoiseLevel(0.0, 1.0, 0.0)

    def noised(
        self, images: Sequence[Image.Image], settings: CaptureSettings, generators: Sequence[torch.Generator]
    ) -> list[tuple[Tensor, NoiseLevel]]:
        return [(_LATENT, self.noise_level(settings)) for _ in images]

    def denoise(self, latent: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        self.forwards.append((time.perf_counter(), len(latent)))
        time.sleep(self.seconds * len(latent))
        return latent


@dataclass(frozen=True, kw_only=True)
class _FixedScores(Method):
    """The same scores for every image."""

    @property
    def settings(self) -> CaptureSettings:
        return CaptureSettings(512, Timestep(t=0.0))

    @property
    def normalised(self) -> bool:
        return False

    def request(self, sites: Sequence[Site]) -> MapRequest:
        return MapRequest()

    def __call__(self, maps: AttentionMaps) -> ClassScores:
        return _fixed_scores(len(maps.tokens[0].classes))


@cache
def _fixed_scores(classes: int) -> ClassScores:
    draws = torch.rand(classes + 1, SCORE_SIDE, SCORE_SIDE, generator=torch.Generator().manual_seed(0))
    return ClassScores(draws[:-1], draws[-1])
