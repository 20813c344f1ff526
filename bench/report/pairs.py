"""Which stored runs a comparison sets against each other: those that agree in everything that was not named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from segscale.errors import UserError, did_you_mean

from .comparison import common_images
from .evaluated import EvaluatedRun
from .tables import distinguishing

NAMED = ("backbone", "method", "dataset", "protocol")
"""What a selection may name, in the order in which a name that fits several is read."""
SHARED = ("dataset", "split", "seed", "dtype", "quantize")
"""What both runs of a pair have in common whatever is named, and more by ``made_alike``."""
LEAST_DIGITS = 4
"""Of a run's id, where it is named by that."""
NAMED_IDS = 6


@dataclass(frozen=True)
class Selection:
    """Runs that a text such as ``pocket-sd3/goca`` names."""

    text: str
    fields: frozenset[str]
    """The fields that it names."""
    runs: tuple[EvaluatedRun, ...]
    is_id: bool = False
    """Whether it is the beginning of a run's id."""


def facts(run: EvaluatedRun) -> Mapping[str, str]:
    """What tells runs apart, as tables show it."""
    return {
        "backbone": run.plan.backbone.label,
        "method": run.plan.method.label,
        **run.plan.task.columns,
        **{name: str(value) for name, value in distinguishing(run.plan).items()},
    }


def select(evaluated: Sequence[EvaluatedRun], text: str) -> Selection:
    """The runs that have every name in ``text``, separated by slashes, or whose id begins so.

    A name is what tables show, or of a method its config's. One that fits several fields is of the first
    that is not named yet: ``goca/goca`` is the method, then the protocol.

    Raises:
        UserError: For a name that none has.
    """
    by_id = tuple(run for run in evaluated if len(text) >= LEAST_DIGITS and run.run.run_id.startswith(text))
    if by_id and not any(text in _names(run, field) for run in evaluated for field in NAMED):
        return Selection(text, frozenset(), by_id, is_id=True)
    wanted: dict[str, str] = {}
    for name in text.split("/"):
        fields = [field for field in NAMED if any(name in _names(run, field) for run in evaluated)]
        if not fields:
            known = {facts(run)[field] for run in evaluated for field in NAMED}
            raise UserError(f"no stored run has {name!r}", did_you_mean(name, known))
        field = next((field for field in fields if field not in wanted), None)
        if field is None:
            raise UserError(f"{text} names two of {fields[0]}s", "name one of each kind, as in pocket-sd3/goca")
        wanted[field] = name
    runs = tuple(run for run in evaluated if all(name in _names(run, field) for field, name in wanted.items()))
    if not runs:
        raise UserError(f"no stored run is {text}", "make it with: segscale run, or see: segscale table")
    return Selection(text, frozenset(wanted), runs)


def _names(run: EvaluatedRun, field: str) -> set[str]:
    """What a field of a run may be called."""
    method = run.plan.method
    return {facts(run)[field], *([method.name] if field == "method" and not method.variant else [])}


def select_one(evaluated: Sequence[EvaluatedRun], text: str) -> EvaluatedRun:
    """The run that ``text`` names, as of ``select``. Raises UserError where it is not one."""
    chosen, *others = select(evaluated, text).runs
    if others:
        problem = f"{1 + len(others)} stored runs are {text}"
        ids = ", ".join(run.run.run_id for run in (chosen, *others)[:NAMED_IDS])
        raise UserError(problem, f"name backbone, method, dataset and protocol, with slashes, or one by its id: {ids}")
    return chosen


def made_alike(run: EvaluatedRun, other: EvaluatedRun) -> bool:
    """Whether two runs had the same captions and, of one backbone, the same weights and precision of text."""
    captions, of_other = (each.plan.task.dataset.captions for each in (run, other))
    own, others = (each.plan.backbone for each in (run, other))
    loaded, loaded_by_other = ((each.weights, each.variant, each.text_dtype) for each in (own, others))
    return captions == of_other and (own.name != others.name or loaded == loaded_by_other)


def _agree(run: EvaluatedRun, other: EvaluatedRun, fields: Collection[str]) -> bool:
    own, others = facts(run), facts(other)
    return all(own[field] == others[field] for field in fields)


def paired(first: Selection, second: Selection) -> list[tuple[EvaluatedRun, EvaluatedRun]]:
    """Pairs that agree in all that neither selection names and evaluated some of the same images.

    Of two that are named by their ids, nothing else is asked.

    Raises:
        UserError: There is no pair.
    """
    by_id = first.is_id and second.is_id
    left_open = {*NAMED, *SHARED} - ((first.fields | second.fields) - {*SHARED})
    pairs = [
        (run, other)
        for run, other in product(first.runs, second.runs)
        if run.run.run_id != other.run.run_id
        and (by_id or (made_alike(run, other) and _agree(run, other, left_open)))
        and common_images(run, other)
    ]
    if not pairs:
        what = f"no run of {first.text} can be set against one of {second.text} on the same images"
        raise UserError(what, "see what is stored: segscale table")
    return pairs
