"""What would change were prompts and images others: mIoU and power of all subjects, bootstrapped together.

Every replicate draws images and prompts once for all subjects, so that what they share stays shared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.metrics import Floats, mean_iou
from ..report.evaluated import EvaluatedRun
from .frechet import Gaussian, frechet_distance
from .judge_files import load_reference
from .power_record import StoredPower
from .replicates import STREAMS, BackboneReplicates
from .scaling import Subject, pictures_of

REPLICATES = 400


@dataclass(frozen=True, eq=False)
class _Draws:
    """How often each of some items is drawn."""

    ids: tuple[str, ...]
    weights: Floats
    """``(1 + replicates, items)``; once each in the first row."""

    @classmethod
    def of(cls, each: Sequence[Sequence[str]], replicates: int, seed: np.random.SeedSequence) -> _Draws:
        """Of the items that all have."""
        ids = tuple(sorted(set.intersection(*({*items} for items in each))))
        drawn = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), replicates)
        return cls(ids, np.concatenate([np.ones((1, len(ids))), drawn]).astype(float))

    def text(self, kind: str) -> str:
        """Their number and the start of the digest of their ids."""
        return f"{len(self.ids)} {kind} {hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()[:8]}"


def resample(subjects: Sequence[Subject], replicates: int = REPLICATES) -> list[BackboneReplicates]:
    """Bootstrap over prompts and images.

    Args:
        subjects: With runs on the same images and, where power was measured, pictures of the same prompts.
        replicates: How many.
    """
    if not subjects:
        return []
    image_seed, prompt_seed, _ = np.random.SeedSequence(0).spawn(STREAMS)
    runs = [[*subject.runs.values()] for subject in subjects]
    images = _Draws.of([run.counts.images for each in runs for run in each], replicates, image_seed)
    powers, pictures = _each_power(subjects, replicates, prompt_seed)
    return [
        BackboneReplicates(
            name=subject.name,
            parameters=subject.parameters,
            dataset=subject.plan.task.dataset.name,
            protocol=subject.plan.task.protocol.label,
            images=f"{subject.plan.task.dataset.split}, seed {subject.plan.seed}, {images.text('images')}",
            pictures=pictures,
            miou={name: _miou(run, images) for name, run in subject.runs.items()},
            power=power,
        )
        for subject, power in zip(subjects, powers, strict=True)
    ]


def _miou(run: EvaluatedRun, images: _Draws) -> Floats:
    """MIoU in percent, ``(1 + replicates,)``."""
    counts = run.counts.only(images.ids).at_threshold(run.threshold)
    intersection, predicted, label = (images.weights @ part for part in counts.floats())
    return 100 * mean_iou(intersection, predicted, label, run.run.table_rules.averaging)


def _each_power(
    subjects: Sequence[Subject], replicates: int, seed: np.random.SeedSequence
) -> tuple[list[Mapping[str, Floats]], str]:
    """Power by measure, each ``(1 + replicates,)``, and which pictures; published numbers do not vary."""
    powers = [subject.power for subject in subjects if subject.power is not None]
    if len(powers) < len(subjects):
        published = [subject.published for subject in subjects]
        return [{name: np.full(1 + replicates, value) for name, value in each.items()} for each in published], ""
    prompts = _Draws.of([[*power.pictures["id"]] for power in powers], replicates, seed)
    reference = load_reference()
    text = f"{pictures_of(powers[0])}, {prompts.text('pictures')}"
    return [_power_of(power, prompts, reference) for power in powers], text


def _power_of(power: StoredPower, prompts: _Draws, reference: Gaussian) -> dict[str, Floats]:
    weights = prompts.weights
    rows = power.pictures.set_index("id").loc[[*prompts.ids]]
    if "hits" not in rows:
        # By networks. The features of the FID are not stored, so it does not vary.
        power_by = {name: np.full(len(weights), each.value) for name, each in power.record.measures.items()}
        if "clip_score" in rows:
            power_by["clip_score"] = weights @ rows["clip_score"].to_numpy(float) / weights.sum(1)
        return power_by
    hits, named, shown = (weights @ rows[name].to_numpy(float) for name in ("hits", "named", "shown"))
    features = rows[[name for name in rows.columns if name.startswith("feature_")]].to_numpy(float)
    return {
        "f1": 100 * 2 * hits / (named + shown),
        "recall": 100 * hits / named,
        "frechet": np.array([_distance(features, row, reference) for row in weights]),
    }


def _distance(features: Floats, weights: Floats, reference: Gaussian) -> float:
    total = weights.sum()
    mean = weights @ features / total
    centred = features - mean
    return frechet_distance(Gaussian(mean, (centred * weights[:, None]).T @ centred / (total - 1)), reference)
