"""Times commands over a synthetic store of very many runs: ``make scale``. docs/scale.md has what it showed.

Every run has an identity of its own, as a sweep would give it. Areas are made up: three classes of an image, whose
shares a method finds more or less well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from segscale.bench.evaluation.intervals import LeaveOneOut, SampleNumbers
from segscale.bench.evaluation.metrics import Score
from segscale.bench.report.summary import RunSummary, SummaryFile
from segscale.bench.runs.identity import BackboneIdentity, MethodIdentity, RunPlan
from segscale.bench.runs.parts import SCHEMA, SCORES
from segscale.bench.runs.record import Machine, StoredRun
from segscale.bench.runs.store import RunStore
from segscale.bench.tasks.identity import DatasetIdentity, ProtocolIdentity, TableRules, TaskIdentity

PIXELS = 500 * 375
PRESENT = 3
PER_TASK = {"backbone": 20, "method": 10}
DATASETS = 5
MACHINE = Machine("Linux", "x86_64", 2)


def runs(number: int, thresholds: int, classes: int, images: int) -> Iterator[StoredRun]:
    """So many runs, task by task."""
    swept = tuple(round(-0.4 + 0.05 * place, 2) for place in range(thresholds))
    names = tuple(f"class {place}" for place in range(classes))
    cells = product(range(1000), range(DATASETS), *(range(count) for count in PER_TASK.values()))
    for _, (seed, dataset, backbone, method) in zip(range(number), cells, strict=False):
        plan = RunPlan(
            BackboneIdentity(f"b{backbone}", "w", "float16", "float16", None, None, None, False, False, {}),
            MethodIdentity(f"m{method}", "", normalised=True, attention=None, parameters={}),
            TaskIdentity(
                DatasetIdentity(f"d{dataset}", f"d{dataset}", "val", "ids", {}),
                ProtocolIdentity("standard", "", False, swept, class_names="names", rules={}),
            ),
            seed=seed,
            version="scale",
        )
        rules = TableRules(0.0, "all", oracle_protocol=None)
        yield StoredRun(plan.run_id, plan, rules, names, 0, images, MACHINE, wanted=images, parameters=10**8 + backbone)


def rows(run: StoredRun, images: int, first: int = 0) -> pa.Table:
    """Images of a run."""
    thresholds, classes = len(run.plan.task.protocol.thresholds), len(run.classes)
    rng = np.random.default_rng(int(run.run_id, 16))
    labels, found = np.zeros((images, classes), np.int64), np.zeros((images, thresholds, classes), np.int64)
    predicted = found.copy()
    every = np.arange(images)
    for _ in range(PRESENT):
        shown = rng.integers(0, classes, images)
        labels[every, shown] = rng.integers(1, PIXELS // PRESENT, images)
    share = np.sort(rng.uniform(0.3, 0.9, (images, thresholds, 1)), 1)
    found[:] = (labels[:, None] * share).astype(np.int64)
    predicted[:] = (found * rng.uniform(1, 1.1, (images, thresholds, 1))).astype(np.int64)
    counts = {"intersection": found, "predicted_area": predicted, "label_area": labels}
    flat = {name: pa.array(list(values.reshape(images, -1)), pa.list_(pa.int64())) for name, values in counts.items()}
    digests = [f"{number:016x}" for number in range(first, first + images)]
    numbers = {"seconds": 0.5, "peak_bytes": 10**9, "pixels": PIXELS, "not_finite": 0, "cut_classes": 0}
    numbers |= {"forwards": 1, "forwards_together": 1, "captioned": 0}
    columns = {name: pa.array([value] * images) for name, value in numbers.items()}
    columns["image"] = pa.array([f"image-{number:06d}" for number in range(first, first + images)])
    columns |= {name: pa.array([[]] * images, pa.list_(pa.int64())) for name in SCORES}
    columns |= {"image_digest": pa.array(digests), "label_digest": pa.array(digests), **flat}
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def summary(run: StoredRun, images: int) -> RunSummary:
    """Numbers of a run whose images are not there."""
    rng = np.random.default_rng(int(run.run_id, 16))
    miou = rng.uniform(0.3, 0.6)
    without = miou + rng.normal(0, 0.3 / images, images)
    score = Score(miou, 0.8, rng.uniform(0, 1, len(run.classes)))
    sample = SampleNumbers(LeaveOneOut(miou, without, without), None)
    ids = run.plan.task.dataset.name
    precision = rng.uniform(0, 1, len(run.classes))
    mean_ap = LeaveOneOut(precision.mean(), without, without)
    return RunSummary(images, ids, 0.0, score, sample, precision, mean_ap, 0, 0, 1.0, seconds=0.5, peak_bytes=10**9)


def fill(results: Path, number: int, images: int, whole: int) -> None:
    """Store runs; after the first ``whole`` they are as tables find them a second time.

    Their parts are names alone, beside a kept summary.
    """
    for place, run in enumerate(runs(number, 17, 21, images)):
        plan = run.plan
        folder = results.joinpath("runs", plan.backbone.name, plan.method.name, plan.task.dataset.name, run.run_id)
        store = RunStore(folder)
        store.start(run, ())
        store.rules = replace(store.rules, images=None)
        for first in range(0, images, 500):
            size = min(500, images - first)
            if place < whole:
                store._write_part(rows(run, size, first), f".{size}")
            else:
                (store.parts / f"0-{first // 500:06d}.{size}.parquet").touch()
        if place >= whole:
            SummaryFile(store, run, 0.0).write(summary(run, images))


def timed(*words: str) -> tuple[float, float]:
    """Seconds of a command, and its largest memory in GiB."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "segscale", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"segscale {' '.join(words)} failed")
    sys.stdout.write(
        f"segscale {words[0]}: {seconds:.1f} s by the clock, {usage.ru_utime + usage.ru_stime:.1f} s of a core, "
        f"{usage.ru_maxrss / 2**20:.2f} GiB\n"
    )
    return seconds, usage.ru_maxrss / 2**20


def main() -> None:
    """Make the store and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--whole", type=int, default=200, help="runs whose parts hold images, which table reads")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="scale-"))
    began = time.perf_counter()
    if not (folder / "many").exists():
        fill(folder / "many", chosen.runs, chosen.images, 0)
        fill(folder / "whole", chosen.whole, chosen.images, chosen.whole)
    size = sum(path.stat().st_size for path in (folder / "whole").rglob("*.parquet"))
    images = chosen.whole * chosen.images
    sys.stdout.write(f"{folder}: made in {time.perf_counter() - began:.0f} s; {size / images:.0f} bytes per image\n")
    for _ in range(2):
        timed("status", "--results", str(folder / "many"))
    sys.stdout.write(f"{chosen.runs} runs whose summaries are kept:\n")
    timed("table", "--results", str(folder / "many"))
    sys.stdout.write(f"{chosen.whole} runs for the first time, and again:\n")
    for _ in range(2):
        timed("table", "--results", str(folder / "whole"))


if __name__ == "__main__":
    main()
