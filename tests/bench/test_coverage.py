"""What intervals cover on datasets whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segscale.bench.analysis.coverage import main
from segscale.bench.analysis.populations import FIXED, POPULATIONS, draw_pool
from segscale.bench.evaluation.intervals import Interval, SampledCounts, estimate_miou
from segscale.bench.evaluation.metrics import mean_iou
from segscale.bench.evaluation.pixel_counts import PixelCounts


def bootstrap_interval(sample: SampledCounts, rng: np.random.Generator) -> Interval:
    """Percentile bootstrap over images."""
    counts = sample.counts
    images = len(counts.label_area)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=200).astype(np.float64)
    totals = (
        draws @ part.reshape(images, -1) for part in (counts.intersection, counts.predicted_area, counts.label_area)
    )
    low, high = np.percentile(mean_iou(*totals, sample.averaging), (2.5, 97.5))
    return Interval(float(low), float(high))


def test_they_cover_where_the_percentile_bootstrap_does_not() -> None:
    pool = draw_pool(POPULATIONS["ade"], seed=0, images=2000)
    sweep = pool.runs["full"]
    rows = sweep.intersection[:, FIXED], sweep.predicted[:, FIXED], pool.label
    truth = float(mean_iou(*(part.sum(0, dtype=np.float64) for part in rows), "all"))
    rng, covered, covered_by_bootstrap = np.random.default_rng(0), [], []
    for _ in range(60):
        drawn = rng.integers(0, len(pool.label), 500)
        intersection, predicted, label = (part[drawn].astype(np.int64) for part in rows)
        sample = SampledCounts(PixelCounts(intersection, predicted, label), "all")
        for interval, outcomes in (
            (estimate_miou(sample).interval, covered),
            (bootstrap_interval(sample, rng), covered_by_bootstrap),
        ):
            assert isinstance(interval, Interval)
            outcomes.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) >= 0.9
    assert np.mean(covered_by_bootstrap) < 0.8


def test_the_table_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--results", str(tmp_path)])
    assert "mean coverage" in capsys.readouterr().out
    cells = pd.read_csv(tmp_path / "analysis" / "coverage-quick.csv")
    assert set(cells["population"]) == {"voc", "cityscapes", "coco", "ade"}
    assert set(cells["number"]) == {"mIoU", "best of sweep", "difference"}
    # Cityscapes labels nearly everything in twenty images, ADE20K does not even in a hundred.
    printed = cells.groupby(["population", "images"])["printed"].agg(["min", "max"])
    assert printed.loc[("cityscapes", 20), "min"] == cells["samples"].max()
    assert printed.loc[("ade", 100), "max"] == 0
