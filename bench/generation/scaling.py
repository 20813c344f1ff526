"""Joins stored runs with measured or published power: who takes part in the question whether mIoU grows with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from segscale.catalogue import config_files, unlisted_files
from segscale.errors import UserError

from ...backbones.pocket.ladder import family_of
from ..report.evaluated import EvaluatedRun
from ..runs.identity import BackboneIdentity, RunPlan
from .choices import ScalingQuestion
from .power_record import StoredPower

log = logging.getLogger(__name__)

LEAST_BACKBONES = 3
"""Fewer backbones than these have no rank correlation worth the name."""


@dataclass(frozen=True)
class Subject:
    """A backbone whose power and whose mIoU are known."""

    name: str
    runs: Mapping[str, EvaluatedRun]
    """By method, on the same images for all subjects."""
    power: StoredPower | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    """Power by measure, as papers give it."""

    @property
    def plan(self) -> RunPlan:
        """Of its first run; dataset, protocol and seed are those of all."""
        return next(iter(self.runs.values())).plan

    @property
    def parameters(self) -> int:
        """Of the denoiser."""
        return next(iter(self.runs.values())).run.parameters or 0


def _runs_of(question: ScalingQuestion, evaluated: Iterable[EvaluatedRun]) -> list[EvaluatedRun]:
    """Those that take part. Raises UserError where split or seed must be chosen."""
    chosen = [run for run in evaluated if _takes_part(run, question)]
    chosen = _of_one(chosen, "split", question.split, lambda run: run.plan.task.dataset.split)
    return _of_one(chosen, "seed", question.seed, lambda run: run.plan.seed)


def _takes_part(run: EvaluatedRun, question: ScalingQuestion) -> bool:
    task, method = run.plan.task, run.plan.method
    return (
        (task.dataset.name, task.protocol.label) == (question.dataset_name, question.protocol_name)
        and method.name in question.method_names
        and not method.variant
        and not run.plan.backbone.untrained
    )


def _of_one(
    runs: list[EvaluatedRun], kind: str, wanted: str | int | None, value: Callable[[EvaluatedRun], str | int]
) -> list[EvaluatedRun]:
    values = sorted({str(value(run)) for run in runs})
    if wanted is None and len(values) > 1:
        raise UserError(f"the runs are of several {kind}s ({', '.join(values)})", f"choose one with --{kind}")
    return [run for run in runs if wanted in (None, value(run))]


def _powers_of(question: ScalingQuestion, stored: Iterable[StoredPower]) -> list[StoredPower]:
    """Those that take part: pictures of other guidance than the plain one measure no backbone."""
    pairs = ((power, power.record.plan.settings) for power in stored)
    return [power for power, each in pairs if each.guidance_method == "cfg" and question.seed in (None, each.seed)]


def picture_set_label(power: StoredPower) -> str:
    """Captions and noise of the pictures, on which powers compare."""
    plan = power.record.plan
    noise = ", one noise" if plan.settings.shared_noise else ""
    return f"{plan.prompts} {plan.prompts_digest[:8]}, seed {plan.settings.seed}{noise}"


def measured_subjects(
    question: ScalingQuestion,
    evaluated: Iterable[EvaluatedRun],
    stored: Iterable[StoredPower],
    least: int = LEAST_BACKBONES,
    captions: str | None = None,
) -> list[Subject]:
    """Join runs with measurements, by the very backbone: name, weights and all options.

    All measurements are of pictures of the same captions and noise. Of several of a backbone those at the steps,
    scale and size of its config come first, then that with most pictures, then the last of equals.

    Args:
        question: Which runs.
        evaluated: All runs.
        stored: All measurements.
        least: How many backbones must take part.
        captions: Which pictures, as ``picture_set_label`` says; None for the only ones that enough backbones have.

    Raises:
        UserError: Where fewer than ``least`` backbones have a measurement and a run of every method, or where it must
            be chosen which runs or pictures are meant.
    """
    by_pictures: dict[str, dict[str, StoredPower]] = {}
    for power in sorted(_powers_of(question, stored), key=lambda each: (_as_recommended(each), each.record.images)):
        by_pictures.setdefault(picture_set_label(power), {})[_key(power.record.plan.backbone)] = power
    runs = _by_backbone(_runs_of(question, evaluated), question.method_names)
    joined = {
        pictures: [Subject(name, runs_of, powers[key]) for key, (name, runs_of) in runs.items() if key in powers]
        for pictures, powers in by_pictures.items()
    }
    enough = [pictures for pictures, subjects in joined.items() if len(subjects) >= least]
    if captions is None and len(enough) > 1:
        hint = "choose one with --seed, or keep the others in another --results"
        raise UserError(f"power was measured on several sets of pictures ({'; '.join(enough)})", hint)
    largest = max(joined.values(), key=len, default=[])
    subjects = largest if captions is None else joined.get(captions, [])
    chosen = {subject.name for subject in subjects}
    others = sorted({each.name for several in joined.values() for each in several} - chosen)
    if captions is not None and others:
        log.warning("pictures of %s are not of the earlier captions: passed over", ", ".join(others))
    sizes = {subject.power.record.images for subject in subjects if subject.power is not None}
    if len(sizes) > 1:
        log.warning("numbers of pictures differ (%s): Frechet distances do not compare", ", ".join(map(str, sizes)))
    return _enough(subjects, "segscale power BACKBONE, and: segscale run", least)


def _as_recommended(power: StoredPower) -> bool:
    """Whether steps, scale and size are those of the backbone's config, where one is at hand."""
    from segscale.registry import load_config  # reads configs by mmengine, which takes a second to load

    name, settings = power.record.plan.backbone.name, power.record.plan.settings
    if name not in config_files("backbone") | unlisted_files("backbone"):
        return False
    config = load_config("backbone", name)
    sampling = {"steps": settings.steps, "guidance": settings.guidance}
    return (config.get("sampling"), config["method_defaults"]["image_size"]) == (sampling, settings.image_size)


def published_subjects(
    question: ScalingQuestion,
    evaluated: Iterable[EvaluatedRun],
    published: Mapping[str, Mapping[str, float]],
    least: int = LEAST_BACKBONES,
) -> list[Subject]:
    """Join runs with published power by the backbone's name.

    Raises:
        UserError: Where fewer than ``least`` backbones have a published number and a run of every method, or where it
            must be chosen which runs are meant.
    """
    subjects = [
        Subject(name, of_backbone, published=published[name])
        for name, of_backbone in _by_backbone(_runs_of(question, evaluated), question.method_names).values()
        if name in published
    ]
    return _enough(subjects, "segscale run --backbone sd15,sdxl,flux", least)


def _by_backbone(
    runs: Iterable[EvaluatedRun], method_names: Sequence[str]
) -> dict[str, tuple[str, dict[str, EvaluatedRun]]]:
    """Name and runs of every backbone that has a run of each method, by all that identifies it."""
    found: dict[str, tuple[str, dict[str, EvaluatedRun]]] = {}
    for run in runs:
        identity, method = run.plan.backbone, run.plan.method.name
        other = found.setdefault(_key(identity), (identity.name, {}))[1].setdefault(method, run)
        if other is not run:
            problem = f"there are two runs of {method} on {identity.name}: {other.folder} and {run.folder}"
            raise UserError(problem, "keep one of them there: their run.json says in what they differ")
    return {
        key: (name, {method: of_backbone[method] for method in method_names})
        for key, (name, of_backbone) in found.items()
        if of_backbone.keys() == set(method_names)
    }


def _key(identity: BackboneIdentity) -> str:
    return json.dumps(asdict(identity), sort_keys=True)


def _enough(subjects: list[Subject], hint: str, least: int) -> list[Subject]:
    if len(subjects) < least:
        problem = f"{len(subjects)} backbones have both power and runs of every method, {least} are needed"
        raise UserError(problem, f"make more with: {hint}")
    names = [subject.name for subject in subjects]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problem = f"there are runs of {twice[0]} with other weights, precision or options"
        raise UserError(problem, "keep those of one kind, the others in another --results")
    return sorted(subjects, key=lambda subject: (family_of(subject.name), subject.name))
