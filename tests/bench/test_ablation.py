from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from segscale.bench.analysis.ablation import VANILLA, ablate, ablated_cells
from segscale.bench.analysis.timesteps import evaluate_timesteps
from segscale.bench.commands.main import main
from segscale.bench.evaluation.metrics import best_index, score_counts
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.files import ANALYSIS_FOLDER
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.task import Task
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.methods.rescaling import word_maps
from segscale.registry import build


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("pocket", build("protocol", "standard"), RunOptions())


@pytest.mark.parametrize("method", ["goca", "goca-described", "seg4diff-described", "vanilla"])
def test_a_cell_exchanges_its_own_field_and_shares_the_forward(method: str) -> None:
    base, *cells = ablated_cells(method, "pocket-sd15")
    assert {**asdict(base.method), "variant": ""} == asdict(build_method(method, "pocket-sd15"))
    assert len({cell.method for cell in cells}) == len(cells)
    for cell in cells:
        ours, theirs = asdict(base.method), asdict(cell.method)
        changed = {field for field in ours if ours[field] != theirs[field]} - {"variant"}
        assert changed <= ({*VANILLA} if cell.axis == "alone" else {cell.axis})
        assert cell.axis == "alone" or str(theirs[cell.axis]) == cell.value
        assert cell.method.settings == base.method.settings
        assert cell.method.prompt_rule == base.method.prompt_rule


def test_alone_means_that_the_other_parts_are_those_of_vanilla() -> None:
    cells = {(cell.axis, cell.value): cell.method for cell in ablated_cells("goca", "pocket-sd15")}
    for part, config in {"heads": "goca-heads", "layers": "goca-layers", "rescaling": "goca-rescale"}.items():
        alone = build_method(config, "pocket-sd15")
        assert replace(cells["alone", part], name=config, variant="") == alone
    vanilla = build_method("vanilla", "pocket-sd15")
    assert replace(cells["alone", "none of them"], name="vanilla", variant="") == vanilla


def test_ablation_is_one_forward_and_each_row_is_the_run_of_its_cell(task: Task, tmp_path: Path) -> None:
    cells = [cell for cell in ablated_cells("goca-described", "pocket-sd15") if cell.axis in ("-", "words", "heads")]
    options = RunOptions(limit=4, results=tmp_path)
    table = ablate(cells, "pocket-sd15", task, options)
    runs = {run.plan.method.variant: run for run in evaluate_runs(tmp_path / ANALYSIS_FOLDER)}
    assert len(table) == len(runs) == len(cells)
    for cell, row in zip(cells, table.to_dict("records"), strict=True):
        run = runs[cell.method.variant]
        assert run.counts.forwards_together.tolist() == [1] * 4
        swept = [run.counts.at_threshold(threshold) for threshold in run.counts.thresholds]
        best = max(score_counts(counts, "all").miou for counts in swept)
        assert best == score_counts(swept[best_index(swept, "all")], "all").miou
        assert row["miou"] == pytest.approx(100 * best)
        assert row["difference"] == pytest.approx(row["miou"] - table["miou"][0])
    assert pd.isna(table["p_value"][0])
    # A sum is a multiple of the mean, and the last step of GoCA stretches every map.
    assert table.set_index("axis").loc["words", "difference"] == pytest.approx(0, abs=0.01)


def test_equal_cells_are_one_run_and_one_comparison(task: Task, tmp_path: Path) -> None:
    cells = [cell for cell in ablated_cells("vanilla", "pocket-sd3") if cell.axis in ("-", "heads", "alone")]
    table = ablate(cells, "pocket-sd3", task, RunOptions(limit=4, results=tmp_path))
    distinct = [number for number, cell in enumerate(cells) if cell.axis != "alone"]
    assert len(evaluate_runs(tmp_path / ANALYSIS_FOLDER)) == len(distinct) < len(table) == len(cells)
    fewer = ablate([cells[number] for number in distinct], "pocket-sd3", task, RunOptions(limit=4, results=tmp_path))
    pd.testing.assert_frame_equal(table.iloc[distinct].reset_index(drop=True), fewer)
    alone = table[table["axis"] == "alone"]
    assert (alone["difference"] == 0).all()
    assert alone["p_value"].isna().all()


def test_columns_of_a_word_are_averaged_or_added() -> None:
    maps = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(0))
    mean, added = (word_maps(maps, [[1, 2, 4], [0], []], True, rule) for rule in ("mean", "sum"))
    torch.testing.assert_close(added, torch.tensor([3.0, 1.0, 1.0]).view(-1, 1, 1) * mean)
    torch.testing.assert_close(added[0], maps[1] + maps[2] + maps[4])


def test_timesteps_are_rows_of_runs_at_these_timesteps(task: Task, tmp_path: Path) -> None:
    options = RunOptions(limit=3, results=tmp_path)
    names = ["vanilla", "seg4diff-described"]
    table = evaluate_timesteps("pocket-sd3", names, [500, 110, 110], task, options)
    assert table[["method", "timestep"]].to_numpy().tolist() == [[name, t] for name in names for t in (110, 500)]
    at_its_own = build_method("seg4diff-described", "pocket-sd3", timestep=500)
    (store,) = run_methods("pocket-sd3", [at_its_own], task, replace(options, results=tmp_path / "alone"))
    alone = store.load(store.read())
    (row,) = table[(table["method"] == "seg4diff-described") & (table["timestep"] == 500)].to_dict("records")
    assert row["miou"] == pytest.approx(100 * score_counts(alone.at_threshold(0.0), "all").miou)
    assert table["miou"].nunique() == 4


def test_a_method_without_timestep_is_refused(tmp_path: Path) -> None:
    task = build_task("pocket", build("protocol", "seg4diff-unsupervised"), RunOptions())
    with pytest.raises(UserError, match="no timestep"):
        evaluate_timesteps("pocket-sd3", ["seg4diff-masks"], [100], task, RunOptions(limit=1, results=tmp_path))


@pytest.mark.parametrize(
    ("arguments", "stem"),
    [
        (["timesteps", "pocket-sd15", "--method", "vanilla", "--timesteps", "100,300"], "vanilla-timesteps-t100+300"),
        (["ablate", "pocket-sd15", "--method", "seg4diff-described"], "seg4diff-described-ablation"),
    ],
)
def test_the_commands_write_the_same_files_again(
    arguments: list[str], stem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[list[bytes]] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        main([*arguments, "--limit", "2", "--results", str(folder)])
        name = f"pocket-sd15-pocket-val-standard-{stem}-first2"
        written.append([(folder / ANALYSIS_FOLDER / f"{name}.{ending}").read_bytes() for ending in ("csv", "png")])
    assert written[0] == written[1]
    assert written[0][1].startswith(b"\x89PNG")
    printed: Any = capsys.readouterr().out
    assert "pocket val, 2 images, protocol standard" in printed
    assert "‡" in printed
