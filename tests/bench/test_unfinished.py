"""What tables say of runs that lack images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segscale.bench.commands.main import main
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.tables import NAMED_RUNS, long_table, unfinished_notes
from segscale.bench.runs.leases import HeldLease
from segscale.bench.runs.store import find_runs

STOPPED = "stopped: give its command again"


def command(results: Path, *words: str) -> list[str]:
    return [*words, "--backbone", "pocket-sd15", "--method", "vanilla", "--results", str(results)]


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Results of a run that was asked for four images and stopped after two."""
    main(command(tmp_path, "run", "--limit", "2"))
    (store,) = find_runs(tmp_path)
    store.write(replace(store.read(), wanted=4))
    return tmp_path


def test_tables_name_the_runs_that_are_unfinished(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(command(half, "run", "--limit", "3", "--seed", "1"))
    assert "unfinished" not in capsys.readouterr().out
    main(["table", "--results", str(half)])
    main(["leaderboard", "--results", str(half)])
    note = (
        f"1 of 2 runs are unfinished: vanilla on pocket-sd15, seed 0, pocket val (standard), 2 of 4 images, {STOPPED}."
    )
    printed = capsys.readouterr().out.splitlines()
    written = ((half / name).read_text().splitlines() for name in ("scaling.md", "leaderboard.md"))
    assert all(note in lines for lines in (printed, *written))


def test_they_say_which_ranks_are_at_work(
    half: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (store,) = find_runs(half)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with HeldLease(half, [store.folder.name]):
        main(["table", "--results", str(half)])
    assert "2 of 4 images, still running: rank 1 of 2." in capsys.readouterr().out
    main(["table", "--results", str(half)])
    assert f"2 of 4 images, {STOPPED}." in capsys.readouterr().out


def test_the_same_command_finishes_a_run_and_a_smaller_one_is_satisfied(
    half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(command(half, "run", "--limit", "1"))
    assert "unfinished" not in capsys.readouterr().out
    main(command(half, "bench", "--limit", "4"))
    assert "unfinished" not in capsys.readouterr().out
    (run,) = evaluate_runs(half)
    assert (len(run.counts), run.missing, run.at_work) == (4, 0, ())


def test_many_are_counted_rather_than_named(half: Path) -> None:
    (row,) = long_table(evaluate_runs(half)).to_dict("records")
    rows = long_table(evaluate_runs(half)).loc[[0] * (NAMED_RUNS + 2)].reset_index(drop=True)
    rows.loc[0, "missing"] = 0
    (note,) = unfinished_notes(rows)
    assert note.startswith(f"{NAMED_RUNS + 1} of {NAMED_RUNS + 2} runs are unfinished: ")
    assert note.endswith("; and 1 more.")
    assert note.count(row["backbone"]) == NAMED_RUNS
    assert unfinished_notes(rows.assign(missing=0)) == []
