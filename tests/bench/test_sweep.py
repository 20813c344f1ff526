"""What a sweep plans, and what becomes of its jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segscale.backbones.loading.options import LoadOptions
from segscale.bench.commands import run as run_commands
from segscale.bench.commands.main import main
from segscale.bench.report.published import comparable, read_published
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.bench.runs.store import find_runs
from segscale.bench.sweeps import capacity
from segscale.bench.sweeps.command_line import SweepOptions, run_command
from segscale.bench.sweeps.forwards import Forwards, count_forwards
from segscale.bench.sweeps.plan import Planner
from segscale.bench.sweeps.record import CellRecord
from segscale.bench.sweeps.sweep import Job, Product, jobs_of
from segscale.catalogue import shipped_folder
from segscale.errors import ConfigError, UserError
from segscale.registry import build

FAILING = '''
from dataclasses import dataclass
from segscale.methods.goca import GoCA
from segscale.registry import METHODS

@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class Failing(GoCA):
    """GoCA that has no answer."""

    def __call__(self, maps):
        raise ValueError("no answer")
'''


def test_the_papers_sweep_is_every_published_cell_that_can_be_run_here() -> None:
    published = comparable(read_published(shipped_folder("results") / "paper.csv"))
    columns = ["backbone", "dataset", "protocol", "method"]
    cells = [
        (job.backbone_name, job.dataset_name, job.protocol_name, method)
        for job in jobs_of(build("sweep", "papers").products)
        for method in job.method_names or ()
    ]
    assert sorted(cells) == sorted(map(tuple, published[columns].to_numpy().tolist()))


def test_what_shares_forwards_is_one_job() -> None:
    one, two = Product(("a", "b"), ("d",), ("p",), ("x",)), Product(("a",), ("d",), ("p", "q"), ("y", "x"), (0, 1))
    jobs = {job.key: job.method_names for job in jobs_of([one, two])}
    assert jobs == {
        "a-d-p-seed0": ("x", "y"),
        "b-d-p-seed0": ("x",),
        "a-d-p-seed1": ("y", "x"),
        "a-d-q-seed0": ("y", "x"),
        "a-d-q-seed1": ("y", "x"),
    }
    assert jobs_of([one, Product(("a",), ("d",), ("p",))])[0].method_names is None


def test_names_choose_a_part_of_a_sweep() -> None:
    products = [each.only(backbones=("sd15", "sd3"), methods=None) for each in build("sweep", "papers").products]
    assert {job.backbone_name for job in jobs_of(products)} == {"sd15", "sd3"}
    assert [len(each.backbones) for each in products] == [1, 1, 1, 1, 1]


def test_a_product_without_a_chosen_method_has_no_job() -> None:
    """No method is not every method."""
    products = [each.only(methods=("baseline",)) for each in build("sweep", "papers").products]
    assert {(job.backbone_name, job.method_names) for job in jobs_of(products)} == {("sd15", ("baseline",))}


def test_a_choice_of_no_cell_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", "papers", "--backbone", "pocket-sd15", "--results", str(tmp_path)])
    assert "no cell of sweep papers has all of these names; see " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--partition gpu", "--partition is for SLURM; add --executor slurm"),
        ("--executor local --time 30", "--time is for SLURM; add --executor slurm"),
        ("--array-parallelism 8", "--array-parallelism is for SLURM; add --executor slurm"),
        ("--executor slurm --gpus 0,1", "--gpus is for this machine; leave --executor out, or name those of a job: "),
        (
            "--executor slurm --gres gpu:1",
            "--gres gpu:1 asks for GPUs, and jobs run on --device cpu; add --device cuda",
        ),
        (
            "--executor slurm --time 2",
            "--time 2 leaves too little time: jobs are told to end 2 minutes before; give 5 minutes or",
        ),
        ("--gpus 0 --device cuda:1", "--gpus names the devices of jobs, and --device one; leave one of them out"),
        ("--data-roots voc=/data", "--data-roots names voc, which no cell evaluates; there are: pocket"),
        ("--captions context60=c.json", "--captions names context60, which no cell evaluates; there are: pocket"),
        ("--gpus 0,1,2,3", "there is no device 'cuda:2' here; there are: cpu, cuda:0, cuda:1"),
    ],
)
def test_an_option_that_no_job_would_read_is_one_line(
    words: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = ["--backbone", "pocket-sd15", "--method", "vanilla", "--limit", "1", "--dry-run"]
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *chosen, *words.split(), "--results", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"segscale: error: {line}")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backbones": ("pocket-sd15",), "datasets": ("pocket",)}, "needs protocols"),
        ({"backbones": ("pocket-sd51",)}, "needs datasets"),
        ({"backbone": ("pocket-sd15",)}, "takes no 'backbone'; did you mean backbones?"),
        ({"backbones": ("pocket-sd51",), "datasets": ("pocket",), "protocols": ("goca",)}, "did you mean pocket-sd15?"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line(fields: dict[str, tuple[str, ...]], problem: str) -> None:
    with pytest.raises(UserError, match=problem.replace("?", r"\?")):
        build("sweep", "papers", products=(fields,))


def test_a_sweep_without_products_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no products"):
        build("sweep", "papers", products=())


def test_the_command_of_a_job_asks_for_what_the_sweep_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every field of the options that differs from its default, as the command line reads it."""
    placed = ("model", "balanced", "quanto-int8", "lora-folder")
    load = LoadOptions("cpu", "float16", "bfloat16", "main", "fp16", True, *placed)
    options = RunOptions(
        weights="w",
        split="train",
        limit=3,
        save_masks=None,
        skip_bad=True,
        strict=True,
        batch=2,
        workers=1,
        text_cache=tmp_path / "cache",
        results=tmp_path / "results",
        load=load,
    )
    chosen = SweepOptions(options, {"pocket": "folder"}, {"pocket": str(tmp_path / "captions.json")})
    job = Job("pocket-sd15", "pocket", "standard", 5, ("vanilla", "goca"))
    seen: list[tuple[object, ...]] = []

    def look(*given: object) -> list[object]:
        seen.append(given)
        return []

    monkeypatch.setattr(run_commands, "_run_grid", look)
    main([*run_command(job, chosen.of(job)), "--device", "cpu"])
    ((grid, variants),) = seen
    expected = replace(options, seed=5, data_root="folder", captions=tmp_path / "captions.json")
    assert variants == [expected]
    assert vars(grid) == {
        "backbone_names": ("pocket-sd15",),
        "method_names": ("vanilla", "goca"),
        "dataset_names": ("pocket",),
        "protocol_names": ("standard",),
    }


def test_forwards_are_counted_as_a_run_takes_them(tmp_path: Path) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    task = build_task("pocket", build("protocol", "standard"), options)
    methods = build_methods(None, "pocket-sd15", task.protocol)
    stores = run_methods("pocket-sd15", methods, task, options)
    counts = [store.load(store.read()) for store in stores]
    counted = count_forwards(task, methods, [task.dataset[0], task.dataset[1]])
    assert counted.alone == sum(each.forwards.mean() for each in counts)
    assert {counted.shared} == {each.forwards_together.mean() for each in counts}
    assert counted.shared < counted.alone
    assert count_forwards(task, [], []) == Forwards(0, 0)


def plan(job: Job, results: Path, **data_roots: str) -> tuple[CellRecord, ...]:
    options = SweepOptions(RunOptions(limit=2, results=results), data_roots)
    return Planner(options, checks_memory=True).plan(job).record.cells


def test_what_cannot_run_is_refused_and_the_rest_is_planned(tmp_path: Path) -> None:
    cells = plan(Job("pocket-sd15", "pocket", "standard", 0, ("vanilla", "seg4diff-masks", "goca")), tmp_path)
    assert {cell.method: (bool(cell.run), cell.problem) for cell in cells} == {
        "vanilla": (True, ""),
        "goca": (True, ""),
        "seg4diff-masks": (
            False,
            "seg4diff-masks gives nameless masks, which protocol standard does not evaluate; see: segscale list",
        ),
    }


def test_both_missing_weights_and_a_missing_dataset_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = SweepOptions(
        RunOptions(results=tmp_path, load=LoadOptions(offline=True)), {"voc": str(tmp_path / "nothing")}
    )
    planned = Planner(options, checks_memory=True).plan(Job("sd15", "voc", "goca", 0, ("vanilla", "goca")))
    weights, data = planned.problems
    assert "is not in the cache" in weights
    assert str(tmp_path / "nothing") in data
    assert {cell.problem for cell in planned.record.cells} == {f"{weights} And: {data}"}
    assert planned.record.command == ()
    assert planned.asked[:4] == ("run", "--backbone", "sd15", "--method")


def test_weights_beyond_the_devices_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    full = capacity.weights_bytes("sd15", RunOptions())
    half = capacity.weights_bytes("sd15", RunOptions(load=LoadOptions(dtype="float16")))
    # 0.86 B parameters of the U-Net, 0.12 B of the text encoder, and the VAE, which stays in float32.
    assert 3.9e9 < full < 4.4e9
    assert 0.5 * full < half < 0.56 * full
    monkeypatch.setattr(capacity, "device_bytes", lambda device: half)
    capacity.check_memory("sd15", RunOptions(load=LoadOptions(dtype="float16")))
    with pytest.raises(UserError, match=r"the weights of sd15 take .* GiB in float32, cpu has .* --dtype float16"):
        capacity.check_memory("sd15", RunOptions())


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder, and a method ``failing`` that fails at its first image."""
    configs = tmp_path / "configs"
    (configs / "methods").mkdir(parents=True)
    (tmp_path / "failing_method.py").write_text(FAILING)
    base = '_base_ = "segscale::methods/goca.py"\ncustom_imports = dict(imports=["failing_method"])\n'
    (configs / "methods" / "failing.py").write_text(f'"""It fails."""\n{base}type = "Failing"\n')
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(configs))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "results"


def test_a_bad_cell_is_named_and_stops_no_other(failing: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--backbone", "pocket-sd15", "--method", "vanilla,failing", "--limit", "2", "--results", str(failing)]
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *words])
    assert ended.value.code == 1
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert "1 jobs, 2 cells (0 refused), 4 images, 2 forwards instead of 4; no stored run says how long" in out
    (failed,) = (line for line in lines if line.startswith("failed   pocket-sd15 x failing on pocket val (standard)"))
    assert "0 of 2" in failed
    assert "method failing" in failed
    assert "ValueError: no answer" in failed
    assert str(failing / "sweeps") in failed
    assert "2 runs: 1 failed, 1 done" in lines
    assert "failed   pocket-sd15 on pocket (standard): failing: " in err.replace("\r", "\n") + out
    assert sorted(len(store.done()) for store in find_runs(failing)) == [0, 2]
