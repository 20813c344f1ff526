"""Kept summaries of runs give the tables that their images give, and none that they do not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.evaluation.score_histograms import BINS, ScoreHistograms
from segscale.bench.report import summary as summary_module
from segscale.bench.report.evaluated import EvaluatedRun, evaluate_runs
from segscale.bench.report.tables import class_table, long_table
from segscale.bench.runs.counts import StoredCounts
from segscale.bench.runs.parts import ImageRecord
from segscale.bench.runs.record import StoredRun
from segscale.bench.runs.store import RunStore

from .stored_runs import PLAN, image_record, new_run, record

IMAGES = 40


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods at their best threshold and two at one, on the same images, of which one lacks some."""
    monkeypatch.setattr(summary_module, "KEPT_FROM", 10)
    for number, (images, threshold) in enumerate([(IMAGES, "best"), (IMAGES, "best"), (IMAGES, 0.5), (30, 0.5)]):
        rng = np.random.default_rng(number)
        plan = replace(PLAN, method=replace(PLAN.method, name=f"m{number}"))
        store = RunStore(tmp_path / "runs/b" / plan.method.name / "d" / plan.run_id)
        ids = [f"{place:03d}" for place in range(IMAGES)]
        run = new_run(plan)
        rules = replace(run.table_rules, threshold=threshold)
        store.start(replace(run, wanted=IMAGES, split_images=IMAGES, table_rules=rules), ids)
        label = rng.integers(1, 30, (images, 3))
        predicted = rng.integers(1, 30, (images, 2, 3))
        found = np.minimum(predicted, label[:, None]) // 2
        counts = [PixelCounts(*parts) for parts in zip(found, predicted, label, strict=True)]
        records = [image_record(id, each, 100) for id, each in zip(ids, counts, strict=False)]
        store.append([replace(record, histograms=scores_of(record, rng)) for record in records])
    return tmp_path


def scores_of(record: ImageRecord, rng: np.random.Generator) -> ScoreHistograms:
    """Of two of its classes."""
    areas = record.counts.label_area[1:]
    pixels = [[rng.multinomial(amount, np.full(BINS, 1 / BINS)) for amount in (100 - area, area)] for area in areas]
    return ScoreHistograms(np.array([1, 2]), np.array(pixels))


def kept(results: Path) -> list[Path]:
    return sorted(results.glob("runs/*/*/*/*/summary-*.bin"))


def tables(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    evaluated = evaluate_runs(results)
    return long_table(evaluated), class_table(evaluated)


def test_a_second_table_is_the_first_and_reads_no_image(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tables(results)
    assert len(kept(results)) == 4
    monkeypatch.setattr(RunStore, "load", lambda store, run: pytest.fail("images were read"))
    # Only then: the run that lacks images is compared on those that others have, which takes their counts.
    monkeypatch.setattr("segscale.bench.report.comparison._only", lambda run, images: run)
    monkeypatch.setattr(
        "segscale.bench.report.comparison.have_common_images", lambda run, other: run.plan == other.plan
    )
    evaluated = evaluate_runs(results)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(long_table(evaluated), first[0])
    pd.testing.assert_frame_equal(class_table(evaluated), first[1])


def test_a_summary_is_that_of_the_counts(results: Path) -> None:
    made, read = evaluate_runs(results), evaluate_runs(results)
    for before, after in zip(made, read, strict=True):
        assert (before.miou, before.threshold, before.summary.ids) == (after.miou, after.threshold, after.summary.ids)
        assert before.mean_ap == after.mean_ap
        for numbers, again in (
            (before.sample.numbers, after.sample.numbers),
            (before.summary.mean_ap, after.summary.mean_ap),
        ):
            np.testing.assert_array_equal(numbers.without, again.without)
            np.testing.assert_array_equal(numbers.without_but_same_classes, again.without_but_same_classes)
        np.testing.assert_array_equal(before.score.class_iou, after.score.class_iou)
        assert len(after.counts) == after.summary.images


def changed_image(results: Path) -> None:
    path = next(results.glob("runs/b/m0/d/*/parts/*.parquet"))
    os.utime(path, (1, 1))


def other_rules(results: Path) -> None:
    (folder,) = results.glob("runs/b/m0/d/*")
    store = RunStore(folder)
    run = store.read()
    store.write(replace(run, table_rules=replace(run.table_rules, averaging="every-class")))


def damage(results: Path) -> None:
    path = kept(results)[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def cut(results: Path) -> None:
    path = kept(results)[0]
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("change", [changed_image, other_rules, damage, cut])
def test_where_anything_changed_it_is_made_anew(change: object, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(change)
    tables(results)
    change(results)
    loaded: list[str] = []
    load = RunStore.load

    def counted(store: RunStore, run: object) -> object:
        loaded.append(store.folder.parts[-3])
        return load(store, run)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(RunStore, "load", counted)
    evaluated = evaluate_runs(results)
    assert loaded == ["m0"]
    assert len(kept(results)) == 4
    for path in kept(results):
        path.unlink()
    assert [run.miou for run in evaluated] == [run.miou for run in evaluate_runs(results)]


def test_a_part_that_comes_while_images_are_read_is_in_the_next_table(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = RunStore.load

    def joined(store: RunStore, run: StoredRun) -> StoredCounts:
        counts = load(store, run)
        if store.folder.parts[-3] == "m3":
            store.append([record(f"{IMAGES - 1:03d}")])
        return counts

    monkeypatch.setattr(RunStore, "load", joined)
    assert [run.summary.images for run in evaluate_runs(results)] == [40, 40, 40, 30]
    monkeypatch.undo()
    monkeypatch.setattr(summary_module, "KEPT_FROM", 10)
    assert [run.summary.images for run in evaluate_runs(results)] == [40, 40, 40, 31]


def test_another_code_makes_another_summary(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables(results)
    before = kept(results)
    monkeypatch.setattr(summary_module, "_code", lambda: "another")
    tables(results)
    assert set(before).isdisjoint(kept(results))
    assert len(kept(results)) == 4


def test_where_the_folder_cannot_be_written_tables_are_made_all_the_same(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, flushes: bool) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(summary_module, "replaced_bytes", refused)
    assert len(tables(results)[0]) == 4
    assert kept(results) == []


def test_few_images_are_read_every_time(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_module, "KEPT_FROM", IMAGES)
    tables(results)
    assert [path.parts[-4] for path in kept(results)] == ["m0", "m1", "m2"]


def test_a_part_of_a_run_is_estimated_from_its_images_alone(results: Path) -> None:
    whole: EvaluatedRun = evaluate_runs(results)[0]
    part = whole.only(frozenset(whole.counts.images[:15]))
    assert part.counts.images == whole.counts.images[:15]
    assert part.summary.images == len(part.sample.numbers.without) == 15
    assert (part.score, part.threshold) == (whole.score, whole.threshold)
