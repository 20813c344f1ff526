"""The scaling question on earlier tables together with stored runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segscale.bench.commands.main import main
from segscale.bench.generation import resampling
from segscale.bench.generation.frechet import Gaussian
from segscale.bench.generation.power_record import write_power

from .test_scaling import STEPS, backbone, power_of, run_of

TABLES = ("power.csv", "power-statistics.csv", "power-replicates.parquet")


def ask(results: Path, *options: str) -> None:
    main(["scaling", "--protocol", "goca", *options, "--results", str(results)])


def store(results: Path, name: str, number: float) -> None:
    rung = backbone(name)
    run_of(results, rung, "vanilla", 0.2 + 0.15 * number)
    run_of(results, rung, "goca", 0.35 + 0.12 * number)
    write_power(results, power_of(rung, 0.1 + 0.25 * number))


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six rungs of two families, measured, and the tables of them."""
    monkeypatch.setattr(resampling, "load_reference", lambda: Gaussian(np.zeros(2), np.eye(2)))
    folder = tmp_path / "whole"
    for number, steps in enumerate(STEPS):
        store(folder, f"pocket-sd15-{steps}-seed0", number)
    store(folder, "pocket-sd15-60-seed1", 0.3)
    store(folder, "pocket-sd3-60-seed0", 0.7)
    ask(folder)
    return folder


def part_of(whole: Path, names: list[str]) -> Path:
    """A results folder that has the runs and measurements of some backbones alone."""
    part = whole.parent / "-".join(["part", *names])
    for name in names:
        for kind in ("runs", "power"):
            shutil.copytree(whole / kind / name, part / kind / name)
    return part


def assert_same_tables(first: Path, second: Path) -> None:
    for name in TABLES:
        read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
        pd.testing.assert_frame_equal(read(first / name), read(second / name))
    assert (first / "power-statistics.md").read_bytes() == (second / "power-statistics.md").read_bytes()


def test_parts_that_are_joined_give_the_tables_of_the_whole(whole: Path, tmp_path: Path) -> None:
    first = part_of(whole, ["pocket-sd15-60-seed0", "pocket-sd15-125-seed0", "pocket-sd3-60-seed0"])
    ask(first)
    second = part_of(whole, ["pocket-sd15-250-seed0", "pocket-sd15-500-seed0"])
    ask(second, "--earlier", str(first))
    third = part_of(whole, ["pocket-sd15-60-seed1"])
    ask(third, "--earlier", str(second))
    assert_same_tables(third, whole)
    ask(tmp_path / "no runs", "--earlier", str(third))
    assert_same_tables(tmp_path / "no runs", whole)


def test_tables_join_a_folder_in_place(whole: Path) -> None:
    """A backbone with runs here is not taken from earlier tables."""
    before = pd.read_csv(whole / "power.csv").set_index("backbone")
    shutil.rmtree(whole / "runs" / "pocket-sd15-125-seed0")
    changed = "pocket-sd15-60-seed0"
    for kind in ("runs", "power"):
        shutil.rmtree(whole / kind / changed)
    store(whole, changed, 2.0)
    ask(whole, "--earlier", str(whole))
    after = pd.read_csv(whole / "power.csv").set_index("backbone")
    assert after.loc[changed, "vanilla"] > before.loc[changed, "vanilla"] + 10
    pd.testing.assert_frame_equal(after.drop(changed), before.drop(changed))


def without_rows(folder: Path) -> None:
    table = pd.read_csv(folder / "power.csv")
    table.iloc[1:].to_csv(folder / "power.csv", index=False)


def with_other_numbers(folder: Path) -> None:
    table = pd.read_csv(folder / "power.csv")
    table.assign(f1=table["f1"] + 0.1).to_csv(folder / "power.csv", index=False)


def relabelled(folder: Path, column: str, text: str) -> None:
    replicates = pd.read_parquet(folder / "power-replicates.parquet")
    replicates.assign(**{column: text}).to_parquet(folder / "power-replicates.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "power-replicates.parquet").unlink(), "has no power.csv with power-replicates"),
        (lambda folder: (folder / "power-replicates.parquet").write_bytes(b"PAR1"), "damaged or not of one command"),
        (lambda folder: (folder / "power.csv").write_text(""), "damaged or not of one command"),
        (without_rows, "damaged or not of one command"),
        (with_other_numbers, "damaged or not of one command"),
        (lambda folder: relabelled(folder, "images", "val, 9 images"), "earlier backbones are of other images (val, "),
        (
            lambda folder: relabelled(folder, "pictures", "others"),
            "the earlier backbones are of other pictures (others",
        ),
        (
            lambda folder: relabelled(folder, "dataset", "voc"),
            "was run on voc by goca; add --dataset voc --protocol goca",
        ),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    damage: Callable[[Path], object], message: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = part_of(whole, ["pocket-sd3-60-seed0"])
    damage(whole)
    with pytest.raises(SystemExit):
        ask(part, "--earlier", str(whole))
    assert message in capsys.readouterr().err
    assert not (part / "power.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "vanilla,goca-described"], "have no runs of goca-described; give another --earlier, or none"),
        (["--published"], "--earlier tables hold measured power, not published"),
    ],
)
def test_questions_that_earlier_tables_cannot_answer_are_refused(
    options: list[str], message: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ask(whole, "--earlier", str(whole), *options)
    assert message in capsys.readouterr().err
