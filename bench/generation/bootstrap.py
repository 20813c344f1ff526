"""Bootstraps mIoU and power of all subjects together: numbers that other images and prompts might have given.

Every replicate draws images and prompts once for all subjects, so that what they share stays shared.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segscale.errors import UserError

from ..evaluation.metrics import Floats, mean_iou
from ..report.evaluated import EvaluatedRun
from ..runs.identity import plan_digest
from .backbone_replicates import FROM_PAPERS, BackboneReplicates, Conditions, Drawn, Resampled, random_stream
from .frechet import Gaussian, frechet_distance
from .judge_files import load_reference
from .power_record import StoredPower, stored_features
from .scaling import Subject, picture_set_label
from .scaling_tables import subject_row

log = logging.getLogger(__name__)

REPLICATES = 400


@dataclass(frozen=True, eq=False)
class _Draws:
    """How often each of some items is drawn."""

    ids: tuple[str, ...]
    weights: Floats
    """``(1 + replicates, items)``; once each in the first row."""

    @classmethod
    def of(cls, each: Sequence[Sequence[str]], replicates: int, drawn: Drawn) -> _Draws:
        """Of the items that all have. Raises UserError where there are none."""
        ids = tuple(sorted(set.intersection(*({*items} for items in each))))
        if not ids:
            raise UserError(f"the backbones have no {drawn} in common", "run and measure all of them on the same ones")
        if any(len(items) > len(ids) for items in each):
            log.warning("not all backbones have the same %s: intervals are of the %d that all have", drawn, len(ids))
        rng = np.random.default_rng(random_stream(drawn))
        counts = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), replicates)
        return cls(ids, np.concatenate([np.ones((1, len(ids))), counts]).astype(float))

    @property
    def text(self) -> str:
        """Their number and the start of a digest of their ids."""
        return f"{len(self.ids)}, {hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()[:8]}"


def resample(subjects: Sequence[Subject], replicates: int = REPLICATES) -> Resampled:
    """Bootstrap over prompts and images.

    Args:
        subjects: At least one, with runs on the same images and, where power was measured, pictures of the same
            prompts.
        replicates: How many.

    Raises:
        UserError: Where two were not run or measured alike.
    """
    images = _Draws.of([run.counts.images for each in subjects for run in each.runs.values()], replicates, "images")
    powers = [subject.power for subject in subjects if subject.power is not None]
    prompts = None
    if len(powers) == len(subjects):
        prompts = _Draws.of([[*power.pictures["id"]] for power in powers], replicates, "prompts")
    each = [_conditions(subject, images, prompts, replicates) for subject in subjects]
    for subject, conditions in zip(subjects, each, strict=True):
        if (difference := each[0].difference(conditions)) is not None:
            problem = f"{subjects[0].name} and {subject.name} differ in {difference}"
            raise UserError(problem, "keep those of one kind, the others in another --results")
    reference = load_reference()
    backbones = [
        BackboneReplicates(
            name=subject.name,
            parameters=subject.parameters,
            row=subject_row(subject),
            miou={name: _miou(run, images) for name, run in subject.runs.items()},
            power=_power(subject, prompts, reference, replicates),
        )
        for subject in subjects
    ]
    return Resampled(each[0], tuple(backbones))


def _conditions(subject: Subject, images: _Draws, prompts: _Draws | None, replicates: int) -> Conditions:
    plan, power = subject.plan, subject.power
    by = {} if power is None or prompts is None else power.record.measured_by
    return Conditions(
        dataset=plan.task.dataset.name,
        split=plan.task.dataset.split,
        protocol=plan.task.protocol.label,
        seed=plan.seed,
        task=", ".join(sorted({_task_text(run) for run in subject.runs.values()})),
        thresholds=", ".join(sorted(f"{name} {_threshold_text(run)}" for name, run in subject.runs.items())),
        images=images.text,
        captions=FROM_PAPERS if power is None or prompts is None else picture_set_label(power),
        pictures="" if prompts is None else prompts.text,
        measured_by=", ".join(f"{name} {by[name]}" for name in sorted(by)),
        replicates=replicates,
    )


def _task_text(run: EvaluatedRun) -> str:
    return f"{plan_digest(run.plan.task)} averaging {run.run.table_rules.averaging}"


def _threshold_text(run: EvaluatedRun) -> str:
    """The best threshold of a run is its own, so that it is no condition."""
    return "best" if run.threshold_from == "best" else f"{run.threshold:g}"


def _miou(run: EvaluatedRun, images: _Draws) -> Floats:
    """MIoU in percent, ``(1 + replicates,)``."""
    counts = run.counts.only(images.ids).at_threshold(run.threshold)
    intersection, predicted, label = (images.weights @ part for part in counts.floats())
    return 100 * mean_iou(intersection, predicted, label, run.run.table_rules.averaging)


def _power(subject: Subject, prompts: _Draws | None, reference: Gaussian, replicates: int) -> Mapping[str, Floats]:
    """Power by measure, each ``(1 + replicates,)``; published numbers do not vary."""
    if subject.power is None or prompts is None:
        return {name: np.full(1 + replicates, value) for name, value in subject.published.items()}
    return _measured_power(subject.power, prompts, reference)


def _measured_power(power: StoredPower, prompts: _Draws, reference: Gaussian) -> Mapping[str, Floats]:
    weights = prompts.weights
    rows = power.pictures.set_index("id").loc[[*prompts.ids]]
    if "hits" not in rows:
        # By networks. The features of the FID are not stored, so it does not vary.
        power_by = {name: np.full(len(weights), each.value) for name, each in power.record.measures.items()}
        if "clip_score" in rows:
            power_by["clip_score"] = weights @ rows["clip_score"].to_numpy(float) / weights.sum(1)
        return power_by
    hits, named, shown = (weights @ rows[name].to_numpy(float) for name in ("hits", "named", "shown"))
    features = stored_features(rows)
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
