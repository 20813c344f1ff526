"""The run loop: every image through one forward per distinct capture, areas into the run store."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from tqdm import tqdm

from segscale.errors import UserError
from segscale.registry import build

from ...backbones.attention.maps import CaptureSettings
from ...backbones.backbone import Backbone
from ...backbones.latents.noise import image_generator
from ...datasets.dataset import Dataset, Sample
from ...methods.method import Method
from ..evaluation.evaluate import evaluate
from ..inference.memory import PeakMemory
from ..inference.score import Asker, answer, asker
from ..tasks.protocol import Protocol
from .identity import plain
from .plan import RunOptions, build_backbone, build_dataset, make_plan, pinned, run_folder
from .store import Record, RunStore

FLUSH_SECONDS = 5.0
# More methods than these make a title too long to read.
NAMED = 6
PACKAGES = ("torch", "diffusers", "transformers", "mmsegmentation", "numpy")
# Of torchrun, srun (not of sbatch, which starts one process whatever the number of tasks) and Open MPI.
RANK_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)


def rank_and_world() -> tuple[int, int]:
    """This process among those of a launcher (torchrun, SLURM, Open MPI), or (0, 1)."""
    for rank, world in RANK_VARIABLES:
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


@dataclass
class _Cell:
    """One method's share of the loop.

    todo: ids left to do. pending: records not written yet. forwards: of each image, if the method were alone.
    captioned: images whose prompt a caption made.
    """

    method: Method
    store: RunStore
    todo: frozenset[str]
    pending: list[Record] = field(default_factory=list)
    forwards: list[int] = field(default_factory=list)
    captioned: int = 0

    def flush(self) -> None:
        if self.pending:
            self.store.append(self.pending)
            self.pending.clear()


@dataclass
class _Tally:
    """What the loop did."""

    images: int = 0
    forwards: int = 0


def run_methods(
    backbone: str, methods: Sequence[Method], dataset: str, protocol: str | Protocol, options: RunOptions
) -> list[RunStore]:
    """Evaluate methods on one backbone, dataset and protocol, resuming what is stored. One store per method.

    Raises UserError at the first unusable image (unless ``options.skip_bad``) or missing thing; what was computed
    stays.
    """
    rules: Protocol = build("protocol", protocol) if isinstance(protocol, str) else protocol
    data = build_dataset(dataset, options, rules)
    rules = rules.resolved(data)
    rank, world = rank_and_world()
    wanted = range(len(data))[: options.limit]
    ids = data.ids
    mine = wanted[rank::world]
    my_ids = frozenset(ids[index] for index in mine)
    # Reading names and weights anew for each of many methods would cost more than their cells.
    shared = make_plan(backbone, methods[0], data, rules, options)
    plans = [replace(shared, method=plain(method.parameters)) for method in methods]
    metadata = {
        "status": "running",
        "classes": rules.class_names(data),
        "background": rules.background_id(data),
        "split_images": len(data),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }
    cells: list[_Cell] = []
    for method, plan in zip(methods, plans, strict=True):
        store = RunStore(run_folder(options.results, plan), rank)
        store.start(plan, metadata)
        cells.append(_Cell(method, store, my_ids - store.done()))
    missing = [index for index in mine if any(ids[index] in cell.todo for cell in cells)]
    if missing:
        load, arguments = pinned(backbone, options), options.backbone_arguments
        model = build_backbone(backbone, load, options.weights, options.untrained, **arguments)
        parameters = sum(p.numel() for p in model.denoiser.parameters())
        for cell in cells:
            cell.store.update(parameters=parameters, device=str(model.device))
        _loop(model, cells, data, rules, missing, options)
    for cell in cells:
        done = len(cell.store.done())
        finished = done + len(cell.store.skipped()) >= len(wanted)
        cell.store.update(status="complete" if finished else "running", images=done)
    return [cell.store for cell in cells]


def _loop(
    model: Backbone, cells: list[_Cell], data: Dataset, rules: Protocol, indices: Sequence[int], options: RunOptions
) -> None:
    rank, world = rank_and_world()
    share = f", share {rank + 1} of {world}" if world > 1 else ""
    names = ", ".join(cell.method.name for cell in cells) if len(cells) <= NAMED else f"{len(cells)} methods"
    title = f"{model.name} x {names} on {data.name}{share}"
    memory = PeakMemory(model.device)
    memory.reset()
    last_flush = time.monotonic()
    tally = _Tally()
    ask = asker(model, rules, [cell.method for cell in cells], data)
    skipped: dict[str, str] = {}
    ids = data.ids
    progress = tqdm(indices, desc=title, unit="image")
    try:
        for index in progress:
            try:
                sample = data[index]
            except UserError as error:
                if not options.skip_bad:
                    raise
                again = ids[index] in ids[:index]
                skipped[f"{ids[index]} (again)" if again else ids[index]] = error.problem
                continue
            waiting = [cell for cell in cells if sample.id in cell.todo]
            _evaluate(model, waiting, ask, data, rules, sample, options.seed, memory, tally)
            progress.set_postfix_str(f"{tally.forwards / tally.images:.3g} forwards per image", refresh=False)
            if time.monotonic() - last_flush > FLUSH_SECONDS:
                for cell in cells:
                    cell.flush()
                last_flush = time.monotonic()
    finally:
        for cell in cells:
            cell.flush()
            cell.store.skip(skipped)
            if cell.forwards:
                stored = cell.store.read()
                cell.store.update(
                    asked=stored.get("asked", 0) + len(cell.forwards),
                    captioned=stored.get("captioned", 0) + cell.captioned,
                    forwards_alone=sum(cell.forwards) / len(cell.forwards),
                    forwards_per_image=tally.forwards / tally.images,
                    forwards_shared_by=[other.method.name for other in cells],
                )


def _evaluate(
    model: Backbone,
    cells: list[_Cell],
    ask: Asker,
    data: Dataset,
    rules: Protocol,
    sample: Sample,
    seed: int,
    memory: PeakMemory,
    tally: _Tally,
) -> None:
    """One image through every cell; cells whose noised image and prompt are the same share a forward."""
    asked = [ask(cell.method, sample) for cell in cells]
    tally.images += 1
    groups: dict[tuple[CaptureSettings, tuple[str, ...]], list[int]] = defaultdict(list)
    for number, one in enumerate(asked):
        groups[cells[number].method.settings, one.texts].append(number)
    for (settings, texts), numbers in groups.items():
        start = time.perf_counter()
        group = [(cells[number].method, asked[number]) for number in numbers]
        try:
            scores = answer(model, group, sample, settings, image_generator(seed, data.name, sample.id))
        except UserError as error:
            raise UserError(f"{data.name} image {sample.id}: {error}") from error
        tally.forwards += len(texts)
        shared = (time.perf_counter() - start) / len(group)
        for number, one in zip(numbers, scores, strict=True):
            start = time.perf_counter()
            areas = evaluate(one, asked[number].class_ids, sample, rules, data)
            seconds = shared + time.perf_counter() - start
            cells[number].pending.append(Record(sample.id, seconds, memory.read(), areas))
            cells[number].forwards.append(len(texts))
            cells[number].captioned += asked[number].captioned
