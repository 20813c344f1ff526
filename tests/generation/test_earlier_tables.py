"""The scaling question on earlier tables together with stored runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segscale.bench.commands.main import main
from segscale.bench.generation import bootstrap
from segscale.bench.generation.bootstrap import resample
from segscale.bench.generation.configuration_replicates import member_weights
from segscale.bench.generation.frechet import Gaussian
from segscale.bench.generation.power_record import StoredPower, find_power, write_power
from segscale.bench.generation.rank_coverage import simulate
from segscale.bench.generation.scaling import measured_subjects
from segscale.bench.generation.scaling_files import read_scaling
from segscale.bench.report.evaluated import EvaluatedRun, evaluate_runs
from segscale.errors import UserError

from .test_scaling import QUESTION, STEPS, backbone, power_of, run_of

TABLES = ("power.csv", "power-statistics.csv", "power-replicates.parquet")


def ask(results: Path, *options: str) -> None:
    main(["scaling", "--protocol", "goca", *options, "--results", str(results)])


def store(results: Path, name: str, number: float) -> None:
    rung = backbone(name)
    run_of(results, rung, "vanilla", 0.2 + 0.15 * number)
    run_of(results, rung, "goca", 0.35 + 0.12 * number)
    write_power(results, power_of(rung, 0.1 + 0.25 * number))


@pytest.fixture(autouse=True)
def near_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "load_reference", lambda: Gaussian(np.zeros(2), np.eye(2)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for number, steps in enumerate(STEPS):
        store(folder, f"pocket-sd15-{steps}-seed0", number)
    store(folder, "pocket-sd15-60-seed1", 0.3)
    store(folder, "pocket-sd3-60-seed0", 0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "load_reference", lambda: Gaussian(np.zeros(2), np.eye(2)))
        ask(folder)
    return folder


@pytest.fixture
def whole(made: Path, tmp_path: Path) -> Path:
    """Six rungs of two families, measured, and the tables of them."""
    return shutil.copytree(made, tmp_path / "whole")


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


def test_a_kill_between_the_files_loses_no_backbone(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("runs", "power"):
        shutil.rmtree(whole / kind)
    store(whole, "pocket-sd15-1000-seed0", 3.5)

    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt(path, text)

    with monkeypatch.context() as patch:
        patch.setattr("segscale.bench.generation.scaling_files.write_text", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            ask(whole, "--earlier", str(whole))
    assert len(pd.read_csv(whole / "power.csv")) == 6
    ask(whole, "--earlier", str(whole))
    assert len(pd.read_csv(whole / "power.csv")) == 7


def test_backbones_on_no_ladder_join(whole: Path) -> None:
    first = part_of(whole, ["pocket-sd15-60-seed0", "pocket-sd15-125-seed0", "pocket-sd3-60-seed0"])
    ask(first)
    second = whole.parent / "second"
    store(second, "pocket-flux", 1.0)
    ask(second, "--earlier", str(first))
    store(first, "pocket-flux", 1.0)
    ask(first)
    assert_same_tables(second, first)
    assert pd.read_csv(second / "power.csv")["steps"].tolist()[1:] == [125, 60, 60]


def bits(path: Path, place: int) -> None:
    """Flip a bit at a place, given as a share of the file."""
    content = bytearray(path.read_bytes())
    content[place * len(content) // 100] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "there is no {path}; give another --earlier, or none"),
        (lambda path: path.write_bytes(b"PAR1"), "power-replicates.parquet is damaged"),
        (lambda path: pd.read_parquet(path).to_parquet(path), "is damaged or of another version"),
        *(
            (lambda path, place=place: bits(path, place), "power-replicates.parquet is damaged")
            for place in (10, 50, 90)
        ),
    ],
)
def test_damaged_tables_are_refused(
    damage: Callable[[Path], object], message: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = whole / "power-replicates.parquet"
    damage(path)
    with pytest.raises(SystemExit):
        ask(whole / "new", "--earlier", str(whole))
    assert message.format(path=path) in capsys.readouterr().err


def relabelled(power: StoredPower, plan: dict[str, Any] | None = None, **others: Any) -> StoredPower:
    changed = replace(power.record.plan, **plan or {})
    return replace(power, record=replace(power.record, plan=changed, plan_id=changed.plan_id, **others))


@pytest.mark.parametrize(
    ("run", "power", "message"),
    [
        ({"split": "calibration"}, {}, "differ in split (calibration and val)"),
        ({"seed": 5}, {}, "differ in seed (5 and 0)"),
        ({"version": "9"}, {"measured_by": {"judge": "y"}}, "differ in measured_by (judge y and judge x)"),
    ],
)
def test_backbones_that_were_run_or_measured_otherwise_do_not_join(
    run: dict[str, Any], power: dict[str, Any], message: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, new = backbone("pocket-flux"), whole / "new"
    for method in ("vanilla", "goca"):
        run_of(new, other, method, 0.5, **run)
    write_power(new, relabelled(power_of(other, 0.5), **power))
    with pytest.raises(SystemExit):
        ask(new, "--earlier", str(whole))
    assert message in capsys.readouterr().err
    assert not (new / "power.csv").exists()


def test_backbones_of_one_folder_that_were_measured_otherwise_do_not_join(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("vanilla", "goca"):
        run_of(whole, backbone("pocket-flux"), method, 0.5)
    write_power(whole, relabelled(power_of(backbone("pocket-flux"), 0.5), measured_by={"judge": "y"}))
    with pytest.raises(SystemExit):
        ask(whole)
    message = (
        "pocket-flux and pocket-sd15-125-seed0 differ in measured_by (judge y and judge x); keep those of one kind"
    )
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [("images", "9, ab"), ("pictures", "9, ab"), ("thresholds", "goca 0.5"), ("task", "x"), ("replicates", 3)],
)
def test_all_conditions_must_agree(field: str, value: str | int, whole: Path) -> None:
    here = read_scaling(whole, is_published=False)
    other = replace(here, conditions=replace(here.conditions, **{field: value}))  # type: ignore[arg-type]
    message = f"differ in {field} ({getattr(here.conditions, field)} and {value}); give another --earlier"
    with pytest.raises(UserError, match=re.escape(message)):
        here.joined(other)
    assert here.joined(here).backbones == here.backbones


def test_runs_that_are_read_at_their_best_thresholds_are_read_alike(whole: Path) -> None:
    subjects = measured_subjects(QUESTION, evaluate_runs(whole), find_power(whole))
    at_best = [
        replace(subject, runs={name: at_threshold(run, place % 2) for name, run in subject.runs.items()})
        for place, subject in enumerate(subjects)
    ]
    assert resample(at_best, 5).conditions.thresholds == "goca best, vanilla best"


def at_threshold(run: EvaluatedRun, place: int) -> EvaluatedRun:
    summary = replace(run.summary, threshold=run.counts.thresholds[place])
    return replace(run, summary=summary, threshold_from="best")


@pytest.mark.parametrize("names", ["vanilla,goca", "goca,vanilla"])
def test_the_first_method_is_what_others_are_compared_with(names: str, whole: Path, tmp_path: Path) -> None:
    ask(tmp_path / "new", "--earlier", str(whole), "--method", names)
    statistics = pd.read_csv(tmp_path / "new" / "power-statistics.csv")
    gains = {*statistics.loc[statistics["statistic"] == "slope of gain", "method"]}
    assert gains == {" - ".join(reversed(names.split(",")))}


def test_backbones_without_runs_here_are_not_lost(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (whole / name).read_bytes() for name in TABLES}
    shutil.rmtree(whole / "runs" / "pocket-sd3-60-seed0")
    with pytest.raises(SystemExit):
        ask(whole)
    message = "holds 1 backbones that have no runs here, such as pocket-sd3-60-seed0; keep them with --earlier"
    assert message in capsys.readouterr().err
    assert before == {name: (whole / name).read_bytes() for name in TABLES}


def test_a_damaged_file_in_the_way_is_one_line(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (whole / "power-replicates.parquet").write_bytes(b"PAR1")
    with pytest.raises(SystemExit):
        ask(whole)
    assert "power-replicates.parquet is damaged; remove it, and give the command again" in capsys.readouterr().err


def test_pictures_of_other_captions_do_not_join(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are no pictures of the question; the earlier tables stand as they are."""
    new = whole / "new"
    for method in ("vanilla", "goca"):
        run_of(new, backbone("pocket-flux"), method, 0.5)
    write_power(new, relabelled(power_of(backbone("pocket-flux"), 0.5), {"prompts": "others"}))
    ask(new, "--earlier", str(whole))
    assert_same_tables(new, whole)
    assert "pictures of pocket-flux are not of the earlier captions: passed over" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "vanilla"], "are of method vanilla,goca; ask for it: --method vanilla,goca"),
        (["--dataset", "voc"], "are of dataset pocket; ask for it: --dataset pocket"),
        (["--split", "train"], "are of split val; ask for it: --split val"),
        (["--seed", "1"], "are of seed 0; ask for it: --seed 0"),
    ],
)
def test_questions_that_earlier_tables_do_not_answer_are_refused(
    options: list[str], message: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ask(whole / "new", "--earlier", str(whole), *options)
    assert message in capsys.readouterr().err


def test_published_power_joins_published_power_alone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["pocket-sd15-60-seed0", "pocket-sd15-125-seed0", "pocket-sd15-250-seed0", "pocket-flux"]
    for method in ("vanilla", "goca"):
        run_of(whole, backbone("pocket-flux"), method, 0.5)
    lines = [f"me,0,{name},fid,{number},none" for number, name in enumerate(names)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["source,arxiv,backbone,measure,value,conditions", *lines]))
    with pytest.raises(SystemExit):
        ask(whole, "--published", str(path), "--earlier", str(whole))
    assert f"there is no {whole / 'published-power-replicates.parquet'}" in capsys.readouterr().err
    measured = {name: (whole / name).read_bytes() for name in TABLES}
    ask(whole, "--published", str(path))
    assert measured == {name: (whole / name).read_bytes() for name in TABLES}
    assert len(pd.read_csv(whole / "published-power.csv")) == 4
    ask(tmp_path / "new", "--published", str(path), "--earlier", str(whole))
    for name in TABLES[:2]:
        assert (tmp_path / "new" / f"published-{name}").read_bytes() == (whole / f"published-{name}").read_bytes()


def test_intervals_cover_where_seeds_vary_little_and_less_where_they_vary_much() -> None:
    little, much = (simulate(9, spread, ladders=60) for spread in (0.1, 1.0))
    assert little.own > 0.85 > much.own
    assert much.error < -0.05
    # Of rungs that might have been, only those that are drawn tell.
    assert little.own_of_all < 0.6
    assert little.drawn_of_all > 0.9


def test_means_of_few_seeds_vary_as_much_as_they_should() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=3)
    weights = member_weights(rng, 3, 20_000)
    assert (weights[0] @ values) == pytest.approx(values.mean())
    assert (weights[1:] @ values).std() == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.03)
    assert member_weights(rng, 1, 5).tolist() == [[1.0]] * 6
