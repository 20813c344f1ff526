from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segscale.bench.analysis import quirks
from segscale.bench.analysis.quirks import (
    ALL,
    METHOD_OF_PROTOCOL,
    PROTOCOL_OF_METHOD,
    PROTOCOL_QUIRKS,
    effects,
    effects_table,
    method_cells,
    protocol_cells,
)
from segscale.bench.commands.main import main
from segscale.bench.evaluation.intervals import Estimate, Interval, SampledCounts, estimate_difference
from segscale.bench.evaluation.metrics import score_counts
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.protocol import Protocol
from segscale.bench.tasks.task import Task
from segscale.errors import UserError
from segscale.methods.build import build_method


@pytest.mark.parametrize("backbone", ["pocket-sd15", "pocket-flux"])
@pytest.mark.parametrize("name", PROTOCOL_OF_METHOD)
def test_each_cell_mends_one_quirk_and_the_last_all(name: str, backbone: str) -> None:
    published, *mended, described = method_cells(name, backbone)
    assert published.switch is None
    assert described.switch == ALL
    assert described.method == build_method(f"{name}-described", backbone)
    quirks = type(published.method).quirks
    assert mended
    for cell in mended:
        assert cell.switch is not None
        assert cell.what == quirks[cell.switch]
        ours, theirs = asdict(published.method), asdict(cell.method)
        assert {key for key in ours if ours[key] != theirs[key]} - {"variant"} == {cell.switch}


def test_every_quirk_is_switched_by_some_described_method() -> None:
    for name in PROTOCOL_OF_METHOD:
        method = build_method(name, "pocket-flux")
        switched = {cell.switch for cell in method_cells(name, "pocket-flux")}
        assert switched == {None, ALL, *type(method).quirks}


@pytest.mark.parametrize("name", METHOD_OF_PROTOCOL)
def test_each_protocol_cell_changes_one_rule(name: str) -> None:
    published, *mended, described = protocol_cells(name, "pocket-sd3")
    assert [cell.switch for cell in mended] == [quirk.field for quirk in PROTOCOL_QUIRKS[name]]
    for cell in mended:
        assert cell.switch is not None
        assert getattr(cell.protocol, cell.switch) != getattr(published.protocol, cell.switch)
        assert getattr(cell.protocol, cell.switch) == getattr(described.protocol, cell.switch)


def test_a_difference_is_that_of_the_scores_and_of_a_run_to_itself_nothing() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(1, 50, (20, 3))
    mended, published = (SampledCounts(PixelCounts(rng.integers(0, label + 1), label, label), "all") for _ in range(2))
    effect = estimate_difference(mended, published)
    mious = [score_counts(sample.counts, "all").miou for sample in (mended, published)]
    assert effect.value == pytest.approx(mious[0] - mious[1])
    assert effect.bounds[0] <= effect.value <= effect.bounds[1]
    assert estimate_difference(mended, mended) == Estimate(0.0, Interval(0.0, 0.0), 1.0)


def test_effects_have_a_row_per_quirk_and_backbone(tmp_path: Path) -> None:
    rows = effects(["pocket-sd3", "pocket-sd15"], "pocket", RunOptions(limit=2, results=tmp_path))
    assert not rows.duplicated(["kind", "name", "switch", "backbone"]).any()
    assert set(rows[rows["switch"] == "zero_rows"]["backbone"]) == {"pocket-sd3"}
    assert (rows["images"] == 2).all()
    goca = rows[(rows["kind"] == "method") & (rows["name"] == "goca")]
    assert goca.groupby("backbone").size().tolist() == [7, 7]
    lines = effects_table(rows).splitlines()
    assert len(lines) == 2 + len(rows.drop_duplicates(["kind", "name", "switch"]))
    assert lines[0].rstrip("| ").endswith("pocket-sd15")


def test_effects_are_of_the_images_that_are_asked_for(tmp_path: Path) -> None:
    """A store may hold more images of an earlier call."""
    fewer, more = RunOptions(limit=1, results=tmp_path / "alone"), RunOptions(limit=2, results=tmp_path / "after more")
    effects(["pocket-sd3"], "pocket", more)
    again = effects(["pocket-sd3"], "pocket", replace(more, limit=1))
    pd.testing.assert_frame_equal(again, effects(["pocket-sd3"], "pocket", fewer))


def test_a_dataset_that_a_protocol_does_not_know_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(dataset_name: str, protocol: Protocol, options: RunOptions) -> Task:
        if protocol.name == "seg4diff-unsupervised":
            raise UserError("protocol seg4diff-unsupervised says nothing of it")
        return build_task(dataset_name, protocol, options)

    monkeypatch.setattr(quirks, "build_task", refuses)
    with pytest.raises(UserError, match="says nothing of it"):
        effects(["pocket-sd15"], "pocket", RunOptions(limit=1, results=tmp_path))
    assert not [*tmp_path.iterdir()]


def test_the_command_writes_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["quirks", "--backbone", "pocket-sd15", "--limit", "1", "--results", str(tmp_path)])
    written = tmp_path / "analysis" / "pocket-sd15-pocket-quirks-first1.csv"
    assert f"wrote {written}" in capsys.readouterr().out
    assert {"goca", "seg4diff", "seg4diff-masks"} <= set(pd.read_csv(written)["name"])
