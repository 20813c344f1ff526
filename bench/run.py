"""The run loop: every image through one forward per distinct capture, areas into the run store."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from importlib.metadata import version
from operator import or_

import torch
from tqdm import tqdm

from segscale.errors import UserError
from segscale.registry import build

from ..backbones.backbone import Backbone
from ..backbones.maps import CaptureSettings
from ..backbones.noise import image_generator
from ..datasets.dataset import Dataset, Sample
from ..methods.method import ClassScores, Method
from .evaluation import evaluate
from .memory import PeakMemory
from .plan import RunOptions, build_backbone, build_dataset, build_method, make_plan, pinned, run_folder
from .protocol import Protocol
from .store import Record, RunStore

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
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
    """One method's share of the loop: its store, what is left to do, and records not written yet."""

    method: Method
    store: RunStore
    todo: frozenset[str]
    pending: list[Record] = field(default_factory=list)

    def flush(self) -> None:
        if self.pending:
            self.store.append(self.pending)
            self.pending.clear()


def run_methods(
    backbone: str, methods: Sequence[str], dataset: str, protocol: str, options: RunOptions
) -> list[RunStore]:
    """Evaluate methods on one backbone, dataset and protocol, resuming what is stored. One store per method.

    Raises UserError at the first unusable image or missing thing; what was computed stays.
    """
    data = build_dataset(dataset, options)
    rules = build("protocol", protocol).resolved(data)
    rank, world = rank_and_world()
    wanted = range(len(data))[: options.limit]
    ids = data.ids
    mine = wanted[rank::world]
    my_ids = frozenset(ids[index] for index in mine)
    cells = [_open_cell(build_method(name, backbone), backbone, data, rules, options, rank, my_ids) for name in methods]
    missing = [index for index in mine if any(ids[index] in cell.todo for cell in cells)]
    if missing:
        model = build_backbone(backbone, pinned(backbone, options), options.weights, options.untrained)
        for cell in cells:
            cell.store.update(parameters=sum(p.numel() for p in model.denoiser.parameters()), device=str(model.device))
        _loop(model, cells, data, rules, missing, options.seed)
    for cell in cells:
        done = len(cell.store.done())
        cell.store.update(status="complete" if done >= len(wanted) else "running", images=done)
    return [cell.store for cell in cells]


def _open_cell(
    method: Method,
    backbone: str,
    data: Dataset,
    rules: Protocol,
    options: RunOptions,
    rank: int,
    my_ids: frozenset[str],
) -> _Cell:
    plan = make_plan(backbone, method, data, rules, options)
    store = RunStore(run_folder(options.results, plan), rank)
    metadata = {
        "status": "running",
        "classes": rules.class_names(data),
        "background": rules.background_id(data),
        "split_images": len(data),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }
    store.start(plan, metadata)
    return _Cell(method, store, my_ids - store.done())


def _loop(
    model: Backbone, cells: list[_Cell], data: Dataset, rules: Protocol, indices: Sequence[int], seed: int
) -> None:
    rank, world = rank_and_world()
    share = f", share {rank + 1} of {world}" if world > 1 else ""
    title = f"{model.name} x {', '.join(cell.method.name for cell in cells)} on {data.name}{share}"
    memory = PeakMemory(model.device)
    memory.reset()
    last_flush = time.monotonic()
    try:
        for index in tqdm(indices, desc=title, unit="image"):
            sample = data[index]
            _evaluate(model, [cell for cell in cells if sample.id in cell.todo], data, rules, sample, seed, memory)
            if time.monotonic() - last_flush > FLUSH_SECONDS:
                for cell in cells:
                    cell.flush()
                last_flush = time.monotonic()
    finally:
        for cell in cells:
            cell.flush()


def _evaluate(
    model: Backbone,
    cells: list[_Cell],
    data: Dataset,
    rules: Protocol,
    sample: Sample,
    seed: int,
    memory: PeakMemory,
) -> None:
    class_ids = rules.present_classes(sample, data)
    groups: dict[CaptureSettings, list[_Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.method.settings].append(cell)
    for group in groups.values():
        start = time.perf_counter()
        scores = _scores(model, [cell.method for cell in group], data, rules, sample, class_ids, seed)
        shared = (time.perf_counter() - start) / len(group)
        for cell, one in zip(group, scores, strict=True):
            start = time.perf_counter()
            areas = evaluate(one, class_ids, sample, rules, data)
            seconds = shared + time.perf_counter() - start
            cell.pending.append(Record(sample.id, seconds, memory.read(), areas))


def _scores(
    model: Backbone,
    methods: list[Method],
    data: Dataset,
    rules: Protocol,
    sample: Sample,
    class_ids: tuple[int, ...],
    seed: int,
) -> list[ClassScores]:
    """Scores of methods that share one forward; an image without any class needs none."""
    if not class_ids:
        return [ClassScores(torch.empty(0, 1, 1), torch.zeros(1, 1)) for _ in methods]
    settings = methods[0].settings
    sites = model.sites(settings.image_size)
    requests = [method.request(sites) for method in methods]
    merged = reduce(or_, requests)
    prompt = rules.prompt_of(sample, data, class_ids)
    try:
        maps = model.capture(sample.image, prompt, merged, settings, image_generator(seed, data.name, sample.id))
    except UserError as error:
        raise UserError(f"{data.name} image {sample.id}: {error}") from error
    return [method(maps.only(request)) for method, request in zip(methods, requests, strict=True)]
