"""What each choice of GenMask's training does at pocket size: variants of one recipe, some seeds each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from segscale.errors import UserError
from segscale.files import explained_writes, replaced

from ...backbones.loading.autoencoder import POCKET, load_autoencoder
from ...backbones.loading.pretrained import reinitialise
from ...backbones.wan import WanMasks
from ..evaluation.intervals import SampledCounts, estimate_mean, estimate_miou
from ..evaluation.pixel_counts import PixelCounts
from .direct_mask_drawing import areas_by_scene, drawn_masks, picture_losses
from .direct_mask_scenes import MaskScenes
from .direct_mask_twin import untrained_twin
from .direct_masks import MaskTrainer, Recipe
from .timestep_laws import HeavyTail, LogitNormal

FOLDER = "genmask"
"""Below the results: where outcomes are kept."""
TEN = 10
PAIR_SCENE_SHARE = 0.4
"""Scenes with two of a kind to train on, for each plain one."""
VARIANTS: Mapping[str, Recipe] = MappingProxyType(
    {
        "a=0.05": Recipe(),
        "a=0.1": Recipe(masks=HeavyTail(0.1)),
        "a=0.5": Recipe(masks=HeavyTail(0.5)),
        "logit-normal": Recipe(masks=LogitNormal()),
        "no-image-tokens": Recipe(image_tokens=False),
        "no-generation": Recipe(tasks="masks"),
        "no-masks": Recipe(tasks="pictures"),
        "cross-entropy": Recipe(loss="bce"),
    }
)


@dataclass(frozen=True)
class Outcome:
    """One variant trained with one seed, measured on held-out scenes."""

    variant: str
    seed: int
    steps: int
    """Of the training."""
    one_step: tuple[tuple[int, int, int], ...]
    """By scene: intersection, drawn and true area of masks that are drawn in one step."""
    ten_steps: tuple[tuple[int, int, int], ...]
    pictures: tuple[float, ...]
    """By scene: the squared error of the velocity on pictures."""


_OUTCOME = TypeAdapter(Outcome)


@dataclass(frozen=True)
class Ablation:
    """Trains variants and keeps what came out, so that it goes on where it was interrupted."""

    backbone: WanMasks
    train: MaskScenes
    held_out: MaskScenes
    steps: int
    folder: Path
    """Of the outcomes, a file for each."""

    def run(self, seeds: Sequence[int], variants: Sequence[str]) -> Iterator[Outcome]:
        """All outcomes of seeds and variants, those first that all variants have."""
        for seed in seeds:
            for variant in variants:
                path = self.folder / f"{variant}-steps{self.steps}-seed{seed}.json"
                yield read_outcome(path) if path.exists() else self._made(path, variant, seed)

    def _made(self, path: Path, variant: str, seed: int) -> Outcome:
        recipe = replace(VARIANTS[variant], steps=self.steps, seed=seed)
        reinitialise(self.backbone.denoiser, seed)
        average = MaskTrainer(self.backbone, self.train, recipe).train()
        self.backbone.denoiser.load_state_dict(average.state_dict())
        self.backbone.denoiser.eval().requires_grad_(False)
        asked = self.held_out.every_class()
        drawn = [drawn_masks(self.backbone, asked, count, recipe.image_tokens) for count in (1, TEN)]
        areas = [_rows(areas_by_scene(masks, asked)) for masks in drawn]
        losses = tuple(picture_losses(self.backbone, self.held_out).tolist())
        outcome = Outcome(variant, seed, self.steps, areas[0], areas[1], losses)
        with explained_writes(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                file.write(_OUTCOME.dump_json(outcome).decode() + "\n")
        return outcome


def ablate(
    variants: Sequence[str], seeds: Iterable[int], steps: int, scenes: tuple[int, int], folder: Path
) -> list[Outcome]:
    """Train and measure variants of the pocket twin.

    Args:
        variants: Some of ``VARIANTS``.
        seeds: Each trains every variant, from weights of its own.
        steps: Of every training.
        scenes: How many to train on, and how many held-out ones to measure on.
        folder: Where outcomes are kept; those that are there are not made again.
    """
    train, held_out = scenes
    with TemporaryDirectory() as unfinished:
        backbone = untrained_twin(load_autoencoder(POCKET), Path(unfinished))
    vae = backbone.vae
    ablation = Ablation(
        backbone,
        MaskScenes(vae, "train", train, int(PAIR_SCENE_SHARE * train)),
        MaskScenes(vae, "val", held_out, 0),
        steps,
        folder / f"scenes{train}-heldout{held_out}",
    )
    return [*ablation.run([*seeds], variants)]


def known_variants(names: Sequence[str] | None) -> tuple[str, ...]:
    """The variants of these names, all where none are named. Raises UserError for an unknown one."""
    for name in names or ():
        if name not in VARIANTS:
            raise UserError(f"there is no variant {name!r}", f"there are: {', '.join(VARIANTS)}")
    return tuple(names or VARIANTS)


def read_outcome(path: Path) -> Outcome:
    """Read a kept outcome. Raises UserError for a damaged one."""
    try:
        return _OUTCOME.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise UserError(f"{path} is damaged", "remove it and give the command again") from error


def _rows(counts: PixelCounts) -> tuple[tuple[int, int, int], ...]:
    columns = (part[:, 0].tolist() for part in (counts.intersection, counts.predicted_area, counts.label_area))
    return tuple(zip(*columns, strict=True))


def ablation_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per variant and measure: all seeds together, the interval over scenes, the ends of single seeds."""
    rows = [
        row for variant in VARIANTS for row in _variant_rows([each for each in outcomes if each.variant == variant])
    ]
    return pd.DataFrame(rows)


def _variant_rows(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    if not outcomes:
        return []
    areas = {
        "cIoU, one step": [np.array(each.one_step) for each in outcomes],
        "cIoU, ten steps": [np.array(each.ten_steps) for each in outcomes],
    }
    rows: list[dict[str, object]] = []
    for measure, of_seeds in areas.items():
        estimate = estimate_miou(_sample(sum(of_seeds, np.zeros_like(of_seeds[0]))))
        alone = [estimate_miou(_sample(rows)).value for rows in of_seeds]
        low, high = estimate.bounds
        rows.append(_row(outcomes, measure, [100 * value for value in (estimate.value, low, high, *_ends(alone))]))
    losses = np.array([each.pictures for each in outcomes])
    estimate = estimate_mean(losses.mean(0))
    rows.append(_row(outcomes, "loss of pictures", [estimate.value, *estimate.bounds, *_ends(losses.mean(1))]))
    return rows


def _sample(areas: np.ndarray) -> SampledCounts:
    return SampledCounts(PixelCounts(*(column[:, None] for column in areas.T)), "all")


def _ends(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    return float(min(values)), float(max(values))


def _row(outcomes: Sequence[Outcome], measure: str, numbers: Sequence[float]) -> dict[str, object]:
    columns = dict(zip(("mean", "low", "high", "lowest", "highest"), numbers, strict=True))
    first = outcomes[0]
    about = {"steps": first.steps, "seeds": len(outcomes), "images": len(first.one_step)}
    return {"variant": first.variant, "measure": measure, **columns, **about}
