"""What a caption file leaves out is said at the start of a run and below its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segscale.bench.commands.main import main
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.tables import long_table, notes
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.errors import UserError
from segscale.registry import build

CAPTIONS = {
    "val-00000.jpg": "a star",
    "val-00001": {"caption": " \n"},
    "val-00002": "",
    "train-00001": "a ring",
    "nothing": "x",
}
TEXT = "199 of 200 images have no caption, 2 captions are empty, 2 are of no image"


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(CAPTIONS))
    return path


def test_a_run_says_at_its_start_and_below_tables_what_is_left_out(
    captions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = tmp_path / "results"
    main(["run", "--limit", "3", "--captions", str(captions), "--results", str(results)])
    assert [record.getMessage() for record in caplog.records] == [f"captions of pocket val: {TEXT}"]
    (run,) = evaluate_runs(results)
    assert f"Captions of pocket val: {TEXT}." in notes(long_table([run]))


def test_an_empty_caption_is_none(captions: Path) -> None:
    task = build_task("pocket", build("protocol", "standard"), RunOptions(captions=captions))
    assert [task.dataset[index].caption for index in range(3)] == ["a star", None, None]


def test_a_file_may_begin_with_a_byte_order_mark(captions: Path) -> None:
    captions.write_text(captions.read_text(), "utf-8-sig")
    task = build_task("pocket", build("protocol", "standard"), RunOptions(captions=captions))
    assert task.dataset[0].caption == "a star"


def test_a_whole_file_needs_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({f"val-{index:05d}": "a star" for index in range(200)}))
    task = build_task("pocket", build("protocol", "standard"), RunOptions(captions=path))
    assert not caplog.records
    assert task.dataset.caption_gaps is not None
    assert str(task.dataset.caption_gaps) == ""


def test_the_datasets_own_captions_are_not_counted() -> None:
    assert build_task("pocket", build("protocol", "standard"), RunOptions()).dataset.caption_gaps is None


@pytest.mark.parametrize("content", [{"train-00001": "a ring"}, {}, {"val-00001": " "}])
def test_a_file_for_other_images_stops_the_run(content: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"captions\.json has no caption of any image, such as val-00000; ") as caught:
        build_task("pocket", build("protocol", "standard"), RunOptions(captions=path))
    assert "segscale caption" in caught.value.hint
