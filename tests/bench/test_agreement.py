"""Fresh results against an earlier table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from segscale.bench.commands.main import main
from segscale.bench.report.agreement import agreement, read_expected
from segscale.bench.report.selection import RunSelection
from segscale.bench.runs.options import RunOptions
from segscale.errors import UserError

from .cells import run_named


def table(**miou: float) -> pd.DataFrame:
    """Runs of methods on one backbone."""
    same = {"dataset": "d", "split": "val", "protocol": "p", "backbone": "b", "seed": 0, "images": 9}
    same |= {"dtype": "float32", "quantize": None}
    return pd.DataFrame([same | {"method": method, "miou": value} for method, value in miou.items()])


def test_runs_within_the_tolerance_agree() -> None:
    found = agreement(table(x=50.0, y=40.0), table(y=40.25, x=49.5), tolerance=0.5)
    assert found.compared == 2
    assert found.disagreements == ()


def test_runs_that_differ_or_are_missing_are_named() -> None:
    found = agreement(table(x=50.0, y=40.0, z=float("nan")), table(x=50.7, w=1.0, z=3.0), tolerance=0.5)
    assert found.compared == 2
    assert found.disagreements == (
        "w on b, d val (p), seed 0, float32, 9 images: expected and not there",
        "x on b, d val (p), seed 0, float32, 9 images: 50.00, expected 50.70",
        "y on b, d val (p), seed 0, float32, 9 images: there and not expected",
        "z on b, d val (p), seed 0, float32, 9 images: nan, expected 3.00",
    )


def test_other_images_are_another_run() -> None:
    assert len(agreement(table(x=50.0), table(x=50.0).assign(images=10), tolerance=0.5).disagreements) == 2


def test_runs_that_differ_in_precision_are_kept_apart() -> None:
    apart = pd.concat([table(x=50.0), table(x=40.0).assign(dtype="float16"), table(x=30.0).assign(quantize="int8")])
    expected = apart.assign(miou=[50.0, 41.0, 31.0])
    assert agreement(apart, expected, tolerance=0.5).disagreements == (
        "x on b, d val (p), seed 0, float16, 9 images: 40.00, expected 41.00",
        "x on b, d val (p), seed 0, float32, int8, 9 images: 30.00, expected 31.00",
    )


def test_runs_that_cannot_be_told_apart_are_refused() -> None:
    twice = pd.concat([table(x=50.0), table(x=40.0)])
    with pytest.raises(UserError, match=r"several stored runs are x on b, .* 9 images; keep one of them"):
        agreement(twice, table(x=50.0), tolerance=0.5)
    with pytest.raises(UserError, match=r"several expected runs are x on b"):
        agreement(table(x=50.0), twice, tolerance=0.5)


def test_rows_are_chosen_as_runs_are() -> None:
    rows = table(**{"goca": 1.0, "goca (cross-attention)": 2.0, "goca@t=5": 3.0, "goca-heads": 4.0})
    chosen = RunSelection(method_names=("goca",)).of_table(rows)
    assert chosen["miou"].tolist() == [1.0, 2.0, 3.0]
    assert RunSelection(method_names=("goca@t=5",)).of_table(rows)["miou"].tolist() == [3.0]
    assert len(RunSelection().of_table(rows)) == 4


@pytest.mark.parametrize("content", [None, "", "method,miou\nx,1\n"])
def test_another_file_is_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=r"t\.csv.*name a scaling\.csv"):
        read_expected(tmp_path / "t.csv")


def test_the_command_tells_by_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_named("pocket-sd15", ["vanilla", "goca"], "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    main(["table", "--results", str(tmp_path)])
    expected = tmp_path / "scaling.csv"
    command = ["agree", str(expected), "--results", str(tmp_path)]
    main(command)
    assert "2 runs compared" in capsys.readouterr().out
    rows = pd.read_csv(expected)
    rows["miou"] += 0.4 * (rows["method"] == "goca")
    rows.to_csv(expected, index=False)
    main(command)
    with pytest.raises(SystemExit) as caught:
        main([*command, "--tolerance", "0.3"])
    assert caught.value.code == 1
    assert "goca on pocket-sd15, pocket val (standard)" in capsys.readouterr().out
    main([*command, "--tolerance", "0.3", "--method", "vanilla"])
