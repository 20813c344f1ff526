"""Joins stored runs with measured or published power: who takes part in the question whether mIoU grows with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from segscale.catalogue import config_files, unlisted_files
from segscale.errors import UserError

from ...backbones.pocket.ladder import Rung, rung_of
from ..report.evaluated import EvaluatedRun
from ..runs.identity import BackboneIdentity
from .power_record import StoredPower

log = logging.getLogger(__name__)

LEAST = 3
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
    def rung(self) -> Rung | None:
        """Its place on the pocket ladder, if it has one."""
        return rung_of(self.name)

    @property
    def family(self) -> str:
        """The rung's, else its own name."""
        return self.name if self.rung is None else self.rung.family

    @property
    def configuration(self) -> str:
        """What seeds of one rung share."""
        return self.name if self.rung is None else replace(self.rung, seed=0).name

    @property
    def parameters(self) -> int:
        """Of the denoiser."""
        return next(iter(self.runs.values())).run.parameters or 0


def measured_subjects(
    runs: Iterable[EvaluatedRun], powers: Iterable[StoredPower], method_names: Sequence[str]
) -> list[Subject]:
    """Join runs of one task with measurements, by the very backbone: name, weights and all options.

    Pictures of other guidance than the plain one are no measure of a backbone. Of several measurements those at the
    steps and scale of its config come first, then that with most pictures, then the last of equals.

    Raises:
        UserError: Where fewer than three backbones have a measurement and a run of every method.
    """
    by_backbone: dict[str, StoredPower] = {}
    plain = [power for power in powers if power.record.plan.settings.guidance_method == "cfg"]
    for power in sorted(plain, key=lambda stored: (_as_recommended(stored), stored.record.images)):
        by_backbone[_key(power.record.plan.backbone)] = power
    subjects = [
        Subject(name, of_backbone, by_backbone[key])
        for key, (name, of_backbone) in _by_backbone(runs, method_names).items()
        if key in by_backbone
    ]
    sizes = {subject.power.record.images for subject in subjects if subject.power is not None}
    if len(sizes) > 1:
        log.warning("numbers of pictures differ (%s): Frechet distances do not compare", ", ".join(map(str, sizes)))
    return _enough(subjects, "segscale power BACKBONE, and: segscale run")


def _as_recommended(power: StoredPower) -> bool:
    """Whether steps and scale are those of the backbone's config, where one is at hand."""
    from segscale.registry import load_config  # reads configs by mmengine, which takes a second to load

    name, settings = power.record.plan.backbone.name, power.record.plan.settings
    if name not in config_files("backbone") | unlisted_files("backbone"):
        return False
    return load_config("backbone", name).get("sampling") == {"steps": settings.steps, "guidance": settings.guidance}


def published_subjects(
    runs: Iterable[EvaluatedRun], published: Mapping[str, Mapping[str, float]], method_names: Sequence[str]
) -> list[Subject]:
    """Join runs of one task with published power by the backbone's name.

    Raises:
        UserError: Where fewer than three backbones have a published number and a run of every method.
    """
    subjects = [
        Subject(name, of_backbone, published=published[name])
        for name, of_backbone in _by_backbone(runs, method_names).values()
        if name in published
    ]
    return _enough(subjects, "segscale run --backbone sd15,sdxl,flux")


def _by_backbone(
    runs: Iterable[EvaluatedRun], method_names: Sequence[str]
) -> dict[str, tuple[str, dict[str, EvaluatedRun]]]:
    """Name and runs of every backbone that has a run of each method, by all that identifies it."""
    found: dict[str, tuple[str, dict[str, EvaluatedRun]]] = {}
    for run in runs:
        identity = run.plan.backbone
        if not identity.untrained and run.plan.method.name in method_names:
            found.setdefault(_key(identity), (identity.name, {}))[1][run.plan.method.name] = run
    return {
        key: (name, {method: of_backbone[method] for method in method_names})
        for key, (name, of_backbone) in found.items()
        if of_backbone.keys() == set(method_names)
    }


def _key(identity: BackboneIdentity) -> str:
    return json.dumps(asdict(identity), sort_keys=True)


def _enough(subjects: list[Subject], hint: str) -> list[Subject]:
    if len(subjects) < LEAST:
        problem = f"{len(subjects)} backbones have both power and runs of every method, {LEAST} are needed"
        raise UserError(problem, f"make more with: {hint}")
    return sorted(subjects, key=lambda subject: (subject.family, subject.name))
