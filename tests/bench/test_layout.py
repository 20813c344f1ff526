"""The papers' layout in every format, and which runs it shows."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from segscale.backbones.loading.options import LoadOptions
from segscale.bench.commands.main import main
from segscale.bench.report.evaluated import Evaluation, evaluate_all
from segscale.bench.report.latex import latex_bold, latex_table
from segscale.bench.report.layout import formatted, layouts
from segscale.bench.report.markdown import format_cell, leaderboard
from segscale.bench.report.published import beside_published, read_published
from segscale.bench.report.selection import RunSelection
from segscale.bench.report.tables import long_table, table_rows, with_labels
from segscale.bench.runs.options import RunOptions
from segscale.errors import UserError

from .cells import run_named

PAPER = Path(__file__).parents[2] / "results" / "paper.csv"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on one backbone, and one of them untrained."""
    folder = tmp_path_factory.mktemp("results")
    run_named("pocket-sd15", ["vanilla", "goca"], "pocket", "goca", RunOptions(limit=2, results=folder))
    run_named("pocket-sd15", ["goca"], "pocket", "goca", RunOptions(limit=2, results=folder, untrained=True))
    return folder


@pytest.fixture(scope="module")
def rows(results: Path) -> pd.DataFrame:
    """As if they were runs of the paper's backbone, on two of its datasets."""
    table = long_table(evaluate_all(results).runs)
    table = table.assign(backbone=table["backbone"].str.replace("pocket-", ""), label=table["label"])
    splits = {"voc": "train", "context60": "segmentation-train"}
    return pd.concat([table.assign(dataset=name, split=split) for name, split in splits.items()], ignore_index=True)


def test_captions_and_precision_of_the_text_tell_runs_of_one_cell_apart(tmp_path: Path) -> None:
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({f"val-{place:05d}": "a star" for place in range(200)}))
    bfloat = LoadOptions(text_dtype="bfloat16")
    for options in (RunOptions(), RunOptions(captions=captions), RunOptions(load=bfloat)):
        run_named("pocket-sd15", ["goca"], "pocket", "standard", replace(options, limit=1, results=tmp_path))
    rows = long_table(evaluate_all(tmp_path).runs)
    digests = [run.plan.task.dataset.options.get("captions") for run in evaluate_all(tmp_path).runs]
    (digest,) = (str(each) for each in digests if each is not None)
    assert sorted(rows["label"]) == [
        "pocket-sd15",
        f"pocket-sd15, captions {digest[:4]}",
        "pocket-sd15, text bfloat16",
    ]
    (wide,) = layouts(rows, str).values()
    assert not any("; " in cell for cell in wide["pocket val", "measured"])
    board = leaderboard(rows)
    assert all(f"| {label} " in board for label in rows["label"])


def test_methods_of_other_captions_share_no_column(rows: pd.DataFrame) -> None:
    run = rows.iloc[:1]
    kinds = [("goca", ""), ("goca", "captions ab12"), ("vanilla", "captions ab12")]
    runs = [run.assign(method=name, settings=settings) for name, settings in kinds]
    table = with_labels(pd.concat(runs, ignore_index=True))
    assert table["label"].tolist() == ["sd15", "sd15, captions ab12", "sd15, captions ab12"]
    versions = [run.assign(method=name, version=version) for name, version in (("goca", "1"), ("vanilla", "2"))]
    assert with_labels(pd.concat(versions, ignore_index=True))["label"].tolist() == ["sd15", "sd15"]


def published(rows: pd.DataFrame) -> pd.DataFrame:
    return beside_published(rows, read_published(PAPER))


def test_methods_stand_down_and_datasets_across(rows: pd.DataFrame) -> None:
    (wide,) = layouts(rows, str).values()
    assert [*wide.columns] == [
        *[("", name) for name in ("method", "backbone", "parameters")],
        ("context60 segmentation-train", "measured"),
        ("voc train", "measured"),
    ]
    assert len(wide) == 3
    for row in table_rows(rows):
        line = wide[(wide["", "method"] == row["method"]) & (wide["", "backbone"] == row["label"])]
        assert line[f"{row['dataset']} {row['split']}", "measured"].tolist() == [format_cell(row)]


def test_a_dataset_that_a_method_did_not_see_has_no_number(rows: pd.DataFrame) -> None:
    seen = rows[(rows["dataset"] == "voc") | (rows["method"] == "goca")]
    (wide,) = layouts(seen, str).values()
    assert wide[wide["", "method"] == "vanilla"]["context60 segmentation-train", "measured"].tolist() == ["-"]


def test_runs_of_one_cell_stand_in_it_together(rows: pd.DataFrame) -> None:
    first = rows.iloc[:1]
    both = pd.concat([first, first.assign(miou=12.3, low=11.0, high=13.0)])
    (wide,) = layouts(both, str).values()
    assert wide.iloc[0, 3].endswith("; 12.3* [11.0, 13.0] (2 images)")


def test_published_numbers_stand_beside_with_their_difference(rows: pd.DataFrame) -> None:
    (wide,) = layouts(published(rows), str).values()
    trained = wide[(wide["", "method"] == "goca") & ~wide["", "backbone"].str.contains("untrained")]
    measured = rows.set_index(["method", "backbone"]).loc[("goca", "sd15"), "miou"].iloc[0]
    assert trained["voc train", "published"].tolist() == ["60.7"]
    assert trained["voc train", "difference"].tolist() == [f"{measured - 60.7:+.1f}"]
    untrained = wide[wide["", "backbone"].str.contains("untrained")]
    assert untrained["voc train", "published"].tolist() == ["-"]
    assert "2603.06178" in formatted(published(rows), "github")


def test_records_hold_all_digits(rows: pd.DataFrame) -> None:
    table = published(rows)
    records = json.loads(formatted(table, "json"))
    texts = [*csv.DictReader(io.StringIO(formatted(table, "csv")))]
    assert len(records) == len(texts) == len(rows)
    expected = {(row["identity"], row["dataset"]): row for row in table_rows(table)}
    for record, text in zip(records, texts, strict=True):
        row = expected[record["identity"], record["dataset"]]
        assert record["miou"] == pytest.approx(row["miou"], abs=1e-9)
        assert float(text["miou"]) == row["miou"]
        assert record["low"] is None
        assert text["low"] == ""
        assert (record["difference"] is None) == (row["backbone"] != "sd15")


def test_latex_is_set_with_booktabs(rows: pd.DataFrame) -> None:
    text = formatted(published(rows.assign(method="100 % of_all & more")), "latex")
    for part in ("\\usepackage{booktabs}", "\\toprule", "\\midrule", "\\bottomrule", "\\begin{tabular}{lllrrrrrr}"):
        assert part in text
    assert "\\multicolumn{3}{c}{voc train}" in text
    assert "100 \\% of\\_all \\& more" in text
    lines = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.replace("\\&", "").count("&") for line in lines} == {8}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed, so nothing is compiled")
def test_latex_compiles(rows: pd.DataFrame, tmp_path: Path) -> None:
    odd = pd.DataFrame({("", "method"): [latex_bold("a_b & 5 % ~^\\{}#$")], ("x_y", "measured"): ["60.1†‡§¶*"]})
    tables = formatted(published(rows.assign(best_of_task=True)), "latex") + latex_table(
        odd, "Odd_names & 5 %", "tab:o"
    )
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + tables + "\\end{document}\n"
    (tmp_path / "table.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-1500:]
    assert (tmp_path / "table.pdf").stat().st_size > 0


@pytest.mark.parametrize(
    ("selection", "runs"),
    [
        (RunSelection(), 3),
        (RunSelection(backbone_names=("pocket-sd15",)), 3),
        (RunSelection(backbone_names=("pocket-sd15 (untrained)",)), 1),
        (RunSelection(method_names=("vanilla",)), 1),
        (RunSelection(method_names=("vanilla", "goca"), dataset_names=("pocket",), protocol_names=("goca",)), 3),
    ],
)
def test_a_selection_leaves_runs_out(selection: RunSelection, runs: int, results: Path) -> None:
    assert len(selection.of(evaluate_all(results)).runs) == runs


def test_a_name_that_no_run_has_is_one_line(results: Path) -> None:
    evaluation = evaluate_all(results)
    with pytest.raises(UserError, match="no stored run has 'vanila'; did you mean vanilla"):
        RunSelection(method_names=("vanilla", "vanila")).of(evaluation)
    trained = Evaluation([run for run in evaluation.runs if not run.plan.backbone.untrained], 0)
    both = RunSelection(backbone_names=("pocket-sd15 (untrained)",), method_names=("vanilla",))
    with pytest.raises(UserError, match="no stored run has 'pocket-sd15"):
        both.of(trained)
    with pytest.raises(UserError, match="no stored run has all of these names"):
        both.of(evaluation)


def test_some_runs_are_printed_and_no_file_is_written(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {*results.rglob("*")}
    for command in ("table", "leaderboard"):
        main([command, "--method", "vanilla", "--results", str(results)])
        printed = capsys.readouterr().out
        assert "| vanilla" in printed
        assert "| goca" not in printed
    main(["table", "--format", "csv", "--results", str(results)])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3
    assert {*results.rglob("*")} == before
