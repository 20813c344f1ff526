"""Plans a sweep: what can be checked is checked before the first forward, and a cell that cannot run is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from segscale.catalogue import config_files
from segscale.errors import UserError
from segscale.registry import build

from ...datasets.dataset import Sample
from ...methods.method import Method
from ..runs.plan import BackbonePlan, build_methods, build_task, make_plan, plan_backbone, run_folder
from ..tasks.task import Task
from .capacity import check_memory
from .command_line import SweepOptions, run_command
from .forwards import Forwards, count_forwards
from .pace import Paces
from .progress import stored_images
from .record import CellRecord, JobRecord, run_name
from .sweep import Job

SAMPLED_IMAGES = 8
"""Of every dataset are read, evenly spread, to see that they are there and what they ask."""


@dataclass(frozen=True)
class PlannedJob:
    """A job with what is known of it before it runs."""

    asked: tuple[str, ...]
    """The command that asks for all its cells."""
    record: JobRecord
    forwards: Forwards
    """Per image."""
    stored: int
    """Images of its cells that are stored already."""
    seconds: float | None
    """Estimated for what is left; None where no run of the backbone is stored."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What keeps the whole job from running."""

    @property
    def cells(self) -> int:
        """Those that can run."""
        return sum(not cell.problem for cell in self.record.cells)

    @property
    def wanted(self) -> int:
        """Images of all these cells together."""
        return self.cells * self.record.images

    @property
    def left(self) -> float:
        """Share of the images that is not stored."""
        return 1 - self.stored / self.wanted if self.wanted else 0.0


class Planner:
    """Plans jobs; what they have in common is looked at once."""

    def __init__(self, options: SweepOptions, checks_memory: bool) -> None:
        """``checks_memory``: whether this is the machine that will load the weights."""
        self.options, self.checks_memory = options, checks_memory
        self._backbones: dict[str, BackbonePlan | UserError] = {}
        self._tasks: dict[tuple[str, str], tuple[Task, list[Sample]] | UserError] = {}
        self._paces = Paces(options.run.results)

    def plan(self, job: Job) -> PlannedJob:
        """Plan one job; what keeps it from running is in its cells."""
        backbone, task = self._backbone(job), self._task(job)
        methods: dict[str, Method] = {}
        problems: dict[str, str] = {}
        for name, method in self._methods(job, task):
            if isinstance(method, UserError):
                problems[name] = str(method)
            else:
                methods[name] = method
        if isinstance(backbone, UserError) or isinstance(task, UserError):
            failed = tuple(dict.fromkeys(str(each) for each in (backbone, task) if isinstance(each, UserError)))
            cells = [CellRecord(name, problem=" And: ".join(failed)) for name in (*methods, *problems)]
            return PlannedJob(self._asked(job), _record(job, (), cells, 0), Forwards(0, 0), 0, None, problems=failed)
        return self._planned(job, backbone, task, methods, problems)

    def _planned(
        self,
        job: Job,
        backbone: BackbonePlan,
        built: tuple[Task, list[Sample]],
        methods: dict[str, Method],
        problems: dict[str, str],
    ) -> PlannedJob:
        task, samples = built
        options = self.options.of(job)
        images = len(task.dataset.ids[: options.limit])
        plans = {name: make_plan(backbone.identity, method, task, job.seed) for name, method in methods.items()}
        folders = {name: run_folder(options.results, plan) for name, plan in plans.items()}
        cells = [
            *(CellRecord(name, run_name(folder, options.results)) for name, folder in folders.items()),
            *(CellRecord(name, problem=problem) for name, problem in problems.items()),
        ]
        command = run_command(replace(job, method_names=tuple(methods)), options) if methods else ()
        forwards = count_forwards(task, [*methods.values()], samples)
        record = _record(job, command, cells, images)
        planned = PlannedJob(
            self._asked(job), record, forwards, stored_images(options.results, record), None, tuple(_notes(task))
        )
        pace = self._paces.seconds_per_forward(backbone.identity)
        return planned if pace is None else replace(planned, seconds=pace * forwards.shared * images * planned.left)

    def _asked(self, job: Job) -> tuple[str, ...]:
        return run_command(job, self.options.of(job))

    def _backbone(self, job: Job) -> BackbonePlan | UserError:
        """Weights are there or reachable, their licence is accepted, and the device takes them."""
        name = job.backbone_name
        if name not in self._backbones:
            try:
                options = self.options.of(job)
                planned = plan_backbone(name, options)
                if self.checks_memory:
                    check_memory(name, options)
                self._backbones[name] = planned
            except UserError as error:
                self._backbones[name] = error
        return self._backbones[name]

    def _task(self, job: Job) -> tuple[Task, list[Sample]] | UserError:
        """The dataset is there, as are its captions, and some of its images can be read."""
        key = (job.dataset_name, job.protocol_name)
        if key not in self._tasks:
            try:
                task = build_task(job.dataset_name, build("protocol", job.protocol_name), self.options.of(job))
                self._tasks[key] = (task, self._samples(task))
            except UserError as error:
                self._tasks[key] = error
        return self._tasks[key]

    def _samples(self, task: Task) -> list[Sample]:
        """Some images. Raises UserError for a bad one, unless such are left out."""
        images = len(task.dataset.ids[: self.options.run.limit])
        count = min(SAMPLED_IMAGES, images)
        samples: list[Sample] = []
        for place in range(count):
            try:
                samples.append(task.dataset[place * images // count])
            except UserError:
                if not self.options.run.skip_bad:
                    raise
        return samples

    def _methods(self, job: Job, task: object) -> Iterator[tuple[str, Method | UserError]]:
        """Every method that is asked for, or all that suit the protocol."""
        if job.method_names is None:
            yield from _fitting_methods(job, task)
            return
        protocol = build("protocol", job.protocol_name)
        for name in job.method_names:
            try:
                (method,) = build_methods([name], job.backbone_name, protocol)
                yield name, method
            except UserError as error:
                yield name, error


def _fitting_methods(job: Job, task: object) -> Iterator[tuple[str, Method | UserError]]:
    """All methods that suit the protocol."""
    if isinstance(task, UserError):
        yield "all methods", task
        return
    try:
        fitting = build_methods(None, job.backbone_name, build("protocol", job.protocol_name))
    except UserError as error:
        yield from ((name, error) for name in config_files("method"))
    else:
        yield from ((method.name, method) for method in fitting)


def _record(job: Job, command: tuple[str, ...], cells: Sequence[CellRecord], images: int) -> JobRecord:
    return JobRecord(job.key, job.label, command, tuple(cells), images)


def _notes(task: Task) -> Iterator[str]:
    """What is no mistake but may not be meant."""
    if gaps := str(task.dataset.caption_gaps or ""):
        yield f"captions: {gaps}"
    elif task.protocol.prompt == "caption" and not any(map(task.dataset.caption_of, task.dataset.ids[:SAMPLED_IMAGES])):
        yield "no captions: prompts are made of class names, see: segscale caption --help"
