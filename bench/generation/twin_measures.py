"""The power of pocket twins, without a download: fidelity to captions and Frechet distance of pooled latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL.Image import Image

from ..evaluation.shares import estimate_share
from .fidelity import chance, fidelity, named_ground, named_objects
from .frechet import estimate_frechet, fit_gaussian, frechet_distance
from .judge import Judge, Seen
from .power_record import Measure
from .prompts import PicturePrompt


def twin_measures(
    judge: Judge, prompts: Sequence[PicturePrompt], pictures: Sequence[Image], real: Sequence[Image]
) -> tuple[dict[str, Measure], pd.DataFrame]:
    """Measure pictures of captioned scenes.

    Args:
        judge: Sees them.
        prompts: The captions.
        pictures: What was drawn for each.
        real: The captions' own scenes, of which the floor is made.

    Returns:
        ``recall``, ``precision``, ``f1``, ``ground`` (shares in [0, 1]) and ``frechet``; and a row per picture.
    """
    seen = judge.see(pictures)
    captions = [prompt.text for prompt in prompts]
    named, ground = named_objects(captions), named_ground(captions)
    measures = _fidelity_measures(named, seen)
    right = seen.ground == ground
    measures["ground"] = Measure.of(estimate_share(right), by_chance=_ground_chance(ground, seen))
    floor = frechet_distance(fit_gaussian(judge.see(real).features), judge.reference)
    measures["frechet"] = Measure.of(estimate_frechet(seen.features, judge.reference), floor=floor)
    hits = named & seen.objects
    rows = {"id": [prompt.id for prompt in prompts], "named": named.sum(1), "shown": seen.objects.sum(1)}
    features = {f"feature_{index}": column for index, column in enumerate(seen.features.T.astype(np.float32))}
    return measures, pd.DataFrame({**rows, "hits": hits.sum(1), "ground": right.astype(int), **features})


def _fidelity_measures(named: np.ndarray, seen: Seen) -> dict[str, Measure]:
    found, shuffled = fidelity(named, seen.objects), chance(named, seen.objects)
    return {
        "recall": Measure.of(found.recall, shuffled.recall),
        "precision": Measure.of(found.precision, shuffled.precision),
        "f1": Measure.of(found.f1, shuffled.f1),
    }


def _ground_chance(named: np.ndarray, seen: Seen) -> float:
    """Share of right grounds when every picture gets the caption of another."""
    same = np.array([(seen.ground == ground).sum() for ground in named]).sum() - (seen.ground == named).sum()
    return float(same / (len(named) * (len(named) - 1)))
