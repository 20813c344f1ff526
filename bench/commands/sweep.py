"""Commands for many runs: plan them and share them out, and say how they fare."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segscale.catalogue import config_file, packaged_backbones
from segscale.errors import UserError, did_you_mean
from segscale.places import is_remote

from ..runs.options import RunOptions
from ..sweeps.record import named_sweep
from ..sweeps.slurm import LEAST_MINUTES, LIMIT_SECONDS, SlurmOptions, cancel, submit
from . import options
from .command import Option, command
from .parameters import MINUTES, NATURAL, POSITIVE, Name, Names, Pairs
from .steps import exit_where, is_given, quiet_libraries, refuse_given

if TYPE_CHECKING:
    from ..sweeps.plan import PlannedJob
    from ..sweeps.record import SweepFolder
    from ..sweeps.status import RunStatus
    from ..sweeps.sweep import Product

WATCH_SECONDS = 5
LOGS = Path("segscale-logs")
"""On this machine, where the results are in an object store."""


@dataclass(frozen=True)
class Cells:
    """What a user chose of the product."""

    backbone_names: tuple[str, ...] | None
    method_names: tuple[str, ...] | None
    dataset_names: tuple[str, ...] | None
    protocol_names: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    data_roots: dict[str, str]
    caption_files: dict[str, str]


@dataclass(frozen=True)
class Execution:
    """How the jobs of a sweep are run."""

    executor: str
    gpus: tuple[str, ...] | None
    dry_run: bool
    cancel: str | None


_seeds = Names("seed", click.types.convert_type(NATURAL))
_data = partial(click.option, cls=Option, heading="Images")
_cells = options.chained(
    options.names("backbone", None, "all that are carried by the package, or the sweep's"),
    options.names("method", None, "all that suit the protocol, or the sweep's"),
    options.names("dataset", None, "pocket, or the sweep's"),
    options.names("protocol", None, "standard, or the sweep's"),
    click.option("--seeds", type=_seeds, show_default="0, or the sweep's", help="of the noise"),
    _data("--data-roots", type=Pairs("DATASET=FOLDER,..."), default={}, show_default=False),
    _data("--captions", "caption_files", type=Pairs("DATASET=FILE,..."), default={}, show_default=False),
    options.packed("cells", Cells),
)
_execution = partial(click.option, cls=Option, heading="Execution")
_executed = options.chained(
    _execution("--dry-run", is_flag=True, help="check and plan, and run nothing"),
    _execution("--executor", type=click.Choice(["local", "slurm"]), default="local"),
    _execution("--gpus", type=Names("gpu"), help="one process on each, such as 0,1,2,3, or all; instead of --device"),
    _execution("--cancel", metavar="SWEEP", help="end the jobs of a sweep that SLURM runs, and nothing else"),
    options.packed("execution", Execution),
)
_slurm = partial(click.option, cls=Option, heading="SLURM")
_submitted = options.chained(
    _slurm("--partition", help="where jobs are submitted, instead of SLURM's default"),
    _slurm("--gres", help="of every job, such as gpu:1"),
    _slurm(
        "--time",
        type=MINUTES,
        default="4:00:00",
        help="limit of a job, in minutes or as H:MM:SS; one that needs longer is requeued",
    ),
    _slurm("--mem", help="of every job, such as 32G"),
    _slurm("--array-parallelism", type=POSITIVE, default=256, help="jobs that run at once at most"),
    options.packed("slurm", SlurmOptions),
)
_run = options.chained(
    options.split,
    options.limit,
    options.skip_bad,
    options.strict,
    options.save_masks,
    options.pipeline,
    options.results,
    options.loading,
    options.packed("run_options", RunOptions),
)


@command(
    resumes=True,
    examples=[
        "segscale sweep --limit 20 --dry-run",
        "segscale sweep papers --executor slurm --partition gpu --gres gpu:1 --time 8:00:00 --device cuda",
    ],
)
@click.argument("sweep_name", metavar="[SWEEP]", type=Name("sweep"), required=False)
@_cells
@_executed
@_submitted
@_run
def sweep(
    sweep_name: str | None, cells: Cells, execution: Execution, slurm: SlurmOptions, run_options: RunOptions
) -> None:
    """Run all combinations of the named backbones, methods, datasets, protocols and seeds.

    SWEEP is a config in configs/sweeps/ instead; names then choose a part of it.

    What can be checked is checked first, and the plan is printed. A cell that fails stops no other. The exit status is
    1 where a cell is not done.
    """
    if execution.cancel is not None:
        numbers = cancel(named_sweep(run_options.results, execution.cancel))
        print(f"cancelled on SLURM: job {', '.join(numbers)}; what was computed is stored")
        return
    _check_executor(execution.executor, slurm)
    quiet_libraries()
    planned = _plan(_products(sweep_name, cells), cells, execution, run_options)
    refused = any(cell.problem for job in planned for cell in job.record.cells)
    if execution.dry_run:
        exit_where(refused)
        return
    folder = _stored(sweep_name or "sweep", planned, run_options)
    _execute(folder, planned, execution, slurm, run_options)


def _check_executor(executor: str, slurm: SlurmOptions) -> None:
    """Raise UserError for options of the other executor, for GPUs that no job would use, and for too short a limit."""
    if executor == "slurm":
        refuse_given(
            ["gpus"], "this machine", "leave --executor out, or name those of a job: --gres gpu:1 --device cuda"
        )
        if (slurm.gres or "").startswith("gpu") and not (is_given("device") or is_given("device_map")):
            raise UserError(f"--gres {slurm.gres} asks for GPUs, and jobs run on --device cpu", "add --device cuda")
        if slurm.time < LEAST_MINUTES:
            told = f"jobs are told to end {LIMIT_SECONDS // 60} minutes before"
            raise UserError(
                f"--time {slurm.time} leaves too little time: {told}", f"give {LEAST_MINUTES} minutes or more"
            )
        return
    refuse_given([field.name for field in fields(SlurmOptions)], "SLURM", "add --executor slurm")
    if is_given("gpus") and is_given("device"):
        raise UserError("--gpus names the devices of jobs, and --device one", "leave one of them out")


def _products(sweep_name: str | None, cells: Cells) -> list[Product]:
    """The products of the sweep, cut down to the names that were chosen. Raises UserError where no cell has them."""
    from segscale.registry import build

    from ..sweeps.sweep import Product, jobs_of

    if sweep_name is None:
        chosen = (cells.backbone_names or tuple(packaged_backbones()), cells.dataset_names or ("pocket",))
        return [Product(*chosen, cells.protocol_names or ("standard",), cells.method_names, cells.seeds or (0,))]
    products = [
        each.only(
            backbones=cells.backbone_names,
            methods=cells.method_names,
            datasets=cells.dataset_names,
            protocols=cells.protocol_names,
            seeds=cells.seeds,
        )
        for each in build("sweep", sweep_name).products
    ]
    if not jobs_of(products):
        raise UserError(
            f"no cell of sweep {sweep_name} has all of these names", f"see {config_file('sweep', sweep_name)}"
        )
    return products


def _plan(products: Sequence[Product], cells: Cells, execution: Execution, run_options: RunOptions) -> list[PlannedJob]:
    """Plan all jobs and print the plan."""
    from ..sweeps.command_line import SweepOptions
    from ..sweeps.plan import Planner
    from ..sweeps.plan_table import plan_table
    from ..sweeps.sweep import jobs_of

    local = execution.executor == "local"
    load = replace(run_options.load, device=_devices(execution, run_options)[0]) if local else run_options.load
    chosen = SweepOptions(replace(run_options, load=load), cells.data_roots, cells.caption_files)
    planner, jobs = Planner(chosen, checks_memory=local), jobs_of(products)
    evaluated = {job.dataset_name for job in jobs}
    for option, by_dataset in (("--data-roots", cells.data_roots), ("--captions", cells.caption_files)):
        if others := sorted(by_dataset.keys() - evaluated):
            raise UserError(f"{option} names {others[0]}, which no cell evaluates", did_you_mean(others[0], evaluated))
    planned = [planner.plan(job) for job in jobs]
    print(plan_table(planned))
    return planned


def _devices(execution: Execution, run_options: RunOptions) -> tuple[str, ...]:
    """The devices that jobs are shared out to. Raises UserError for a GPU that is not here."""
    if execution.gpus is None:
        return (run_options.load.device,)
    import torch

    from ...backbones.loading.pretrained import check_device

    numbers = execution.gpus if execution.gpus != ("all",) else range(torch.cuda.device_count())
    devices = tuple(f"cuda:{number}" for number in numbers) or ("cuda",)
    for device in devices:
        check_device(replace(run_options.load, device=device))
    return devices


def _stored(name: str, planned: Sequence[PlannedJob], run_options: RunOptions) -> SweepFolder:
    from ..sweeps.record import SweepFolder, SweepRecord

    jobs = tuple(job.record for job in planned)
    folder = SweepFolder.of(run_options.results, name, [word for job in planned for word in job.asked])
    logs = LOGS / folder.folder.name if is_remote(folder.folder) else folder.folder / "logs"
    folder.plan(SweepRecord(name, jobs, logs=str(logs.absolute())))
    return folder


def _execute(
    folder: SweepFolder,
    planned: Sequence[PlannedJob],
    execution: Execution,
    slurm: SlurmOptions,
    run_options: RunOptions,
) -> None:
    """Run the jobs that lack images."""
    from ..sweeps.local import LocalExecutor
    from ..sweeps.status import statuses

    due = [job.record for job in planned if job.record.command and job.stored < job.wanted]
    if execution.executor == "slurm":
        number = submit(folder, due, run_options.load.device, slurm) if due else "none"
        print(f"submitted job {number}, {len(due)} tasks; see: segscale status {folder.folder.name} --watch")
        return
    LocalExecutor(folder, Path(folder.read().logs), _devices(execution, run_options)).run(due)
    runs = statuses(run_options.results, [folder])
    _print_status(runs, [folder])
    exit_where(any(run.outcome != "done" for run in runs))


@command(examples=["segscale status", "segscale status papers --watch"])
@click.argument("sweep_name", metavar="[SWEEP]", required=False)
@click.option("--watch", is_flag=True, help=f"look again every {WATCH_SECONDS} seconds until nothing runs or waits")
@options.results
def status(sweep_name: str | None, watch: bool, results: Path) -> None:
    """Say how stored runs and sweeps fare: done, running, failed with the line, stopped or waiting.

    SWEEP is the beginning of the name of a folder in the results' sweeps/; without it, all runs are looked at. The exit
    status is 1 where something failed.
    """
    from ..sweeps.record import find_sweeps, named_sweep
    from ..sweeps.status import statuses

    if not results.exists():
        raise UserError(f"there is no folder {results}", "name another --results")
    while True:
        sweeps = find_sweeps(results) if sweep_name is None else [named_sweep(results, sweep_name)]
        runs = statuses(results, None if sweep_name is None else sweeps)
        if watch and sys.stdout.isatty():
            click.clear()
        _print_status(runs, sweeps)
        if not watch or not any(run.outcome in ("running", "waiting") for run in runs):
            break
        time.sleep(WATCH_SECONDS)
    exit_where(any(run.outcome == "failed" for run in runs))


def _print_status(runs: Sequence[RunStatus], sweeps: Sequence[SweepFolder]) -> None:
    from ..sweeps.status import status_text

    print(status_text(runs, sweeps))
