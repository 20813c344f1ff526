"""How often printed intervals contain the truth, on invented datasets whose mIoU is known.

    python -m segscale.bench.analysis.coverage

writes ``coverage.csv`` and ``coverage.md`` to results/analysis: about six minutes of one core.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from segscale.files import explained_writes, replaced

from ..evaluation.intervals import Estimate, Interval, SampledCounts, estimate_difference, estimate_miou
from ..evaluation.metrics import Averaging, mean_iou
from ..evaluation.pixel_counts import PixelCounts
from ..report.markdown import markdown_table
from .populations import FIXED, POOL, POPULATIONS, Pool, draw_pool

IMAGES = (20, 50, 100, 200, 500, 1000)
CELL = ["number", "population", "vocabulary", "averaging"]
# The classes of an image are predicted in no other image, so that two averagings agree.
SAME = "all, in-ground-truth"


@dataclass(frozen=True)
class Effort:
    """How many samples a cell of the table is made of."""

    seeds: Sequence[int] = range(5)
    """Each draws another dataset of every population."""
    samples: int = 100
    """Samples of each dataset; half as many of 500 images and more."""
    pool_images: int = POOL
    enough: int = 50
    """A cell has a coverage where at least so many of its samples print an interval."""


QUICK = Effort(seeds=(0,), samples=4, pool_images=1000, enough=2)


@dataclass(frozen=True)
class Quantity:
    """A number that tables print with an interval."""

    number: str
    vocabulary: str
    run: str
    averaging: Averaging
    reference: str | None = None
    """The run whose mIoU is subtracted."""
    swept: bool = False
    """Whether the best threshold counts."""

    @property
    def shown_averaging(self) -> str:
        return SAME if self.vocabulary == "known" and self.averaging == "all" else self.averaging

    def truth(self, pool: Pool) -> float:
        """The number of the whole pool, which samples estimate."""
        value = self._miou(pool, self.run)
        return value if self.reference is None else value - self._miou(pool, self.reference)

    def estimate(self, pool: Pool, images: NDArray[np.int64]) -> Estimate:
        areas = self._areas(pool, self.run, images)
        if self.reference is None:
            return estimate_miou(areas)
        return estimate_difference(areas, self._areas(pool, self.reference, images))

    def _miou(self, pool: Pool, run: str) -> float:
        sweep, thresholds = pool.runs[run], self._thresholds()
        areas = sweep.intersection[:, thresholds], sweep.predicted[:, thresholds], pool.label[:, None]
        intersection, predicted, label = (part.sum(0, dtype=np.float64) for part in areas)
        return float(mean_iou(intersection, predicted, label, self.averaging).max())

    def _areas(self, pool: Pool, run: str, images: NDArray[np.int64]) -> SampledCounts:
        sweep, thresholds = pool.runs[run], self._thresholds()
        areas = sweep.intersection[images, thresholds], sweep.predicted[images, thresholds], pool.label[images]
        intersection, predicted, label = (part.astype(np.int64) for part in areas)
        return SampledCounts(PixelCounts(intersection, predicted, label), self.averaging)

    def _thresholds(self) -> slice:
        return slice(None) if self.swept else slice(FIXED, FIXED + 1)


def quantities() -> Iterator[Quantity]:
    """Every kind of number under every averaging; known less full vocabulary is what knowing the classes is worth."""
    for vocabulary in ("known", "full"):
        averagings: tuple[Averaging, ...] = ("all", "in-ground-truth", "every-class")
        for averaging in averagings if vocabulary == "full" else ("all", "every-class"):
            yield Quantity("mIoU", vocabulary, vocabulary, averaging)
            yield Quantity("best of sweep", vocabulary, vocabulary, averaging, swept=True)
            yield Quantity("difference", vocabulary, f"{vocabulary}-other", averaging, reference=vocabulary)
            if vocabulary == "full":
                yield Quantity("difference", "known - full", "known", averaging, reference="full")


def simulate(effort: Effort) -> pd.DataFrame:
    """One row per cell and number of images.

    Columns: ``CELL``, images, samples, printed (number of samples with an interval), coverage (share of printed
    intervals that contain the truth, empty where too few are printed), width and bias (mean of the number less the
    truth) in points.
    """
    rows: list[dict[str, Any]] = []
    progress = tqdm(total=len(POPULATIONS) * len(effort.seeds) * len(IMAGES), unit="cell")
    for population in POPULATIONS.values():
        for seed in effort.seeds:
            pool = draw_pool(population, seed, effort.pool_images)
            truths = {quantity: quantity.truth(pool) for quantity in quantities()}
            for images in IMAGES:
                rows += _samples(pool, truths, population.name, seed, images, effort)
                progress.update()
    progress.close()
    groups = pd.DataFrame(rows).groupby([*CELL, "images"], sort=False)
    cells = groups.agg(
        samples=("bias", "size"),
        printed=("covered", "count"),
        coverage=("covered", "mean"),
        width=("width", "mean"),
        bias=("bias", "mean"),
    ).reset_index()
    return cells.assign(coverage=cells["coverage"].where(cells["printed"] >= effort.enough))


def _samples(
    pool: Pool, truths: dict[Quantity, float], population: str, seed: int, images: int, effort: Effort
) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng([seed, images])
    for _ in range(effort.samples if images < 500 else max(1, effort.samples // 2)):
        drawn = rng.integers(0, len(pool.label), images)
        for quantity, truth in truths.items():
            cell = {
                "number": quantity.number,
                "population": population,
                "vocabulary": quantity.vocabulary,
                "averaging": quantity.shown_averaging,
                "images": images,
            }
            yield cell | _outcome(quantity.estimate(pool, drawn), truth)


def _outcome(estimate: Estimate, truth: float) -> dict[str, float]:
    bias = 100 * (estimate.value - truth)
    if not isinstance(estimate.interval, Interval):
        return {"bias": bias, "covered": np.nan, "width": np.nan}
    low, high = estimate.interval.low, estimate.interval.high
    return {"bias": bias, "covered": float(low <= truth <= high), "width": 100 * (high - low)}


def summary(cells: pd.DataFrame) -> str:
    """Markdown: coverage over the cells that have one, for all and per kind of number."""
    table = cells.dropna(subset="coverage")
    lines = [_summary_line("all", table)]
    lines += [_summary_line(str(number), rows) for number, rows in table.groupby("number", sort=False)]
    return markdown_table(pd.DataFrame(lines))


def _summary_line(number: str, cells: pd.DataFrame) -> dict[str, str]:
    coverage = 100 * cells["coverage"].to_numpy(np.float64)
    return {
        "number": number,
        "cells": str(len(cells)),
        "mean coverage": f"{coverage.mean():.1f}",
        "lowest": f"{coverage.min():.1f}",
        "below 93": str(np.count_nonzero(coverage < 93)),
        "below 90": str(np.count_nonzero(coverage < 90)),
        "mean width": f"{cells['width'].mean():.1f}",
    }


def full_table(cells: pd.DataFrame) -> str:
    """Markdown: coverage and mean width in points; in brackets the share of samples that print, where not all do."""
    columns = (cells[name].tolist() for name in ("samples", "printed", "coverage", "width"))
    text = [_cell_text(*cell) for cell in zip(*columns, strict=True)]
    wide: Any = cells.assign(text=text).pivot(index=CELL, columns="images", values="text")
    numbers, populations = list(cells["number"].unique()), list(cells["population"].unique())
    rows = cells[CELL].drop_duplicates().itertuples(index=False, name=None)
    order = sorted(rows, key=lambda row: (numbers.index(row[0]), populations.index(row[1])))
    return markdown_table(wide.reindex(pd.MultiIndex.from_tuples(order, names=CELL)).reset_index())


def _cell_text(samples: int, printed: int, coverage: float, width: float) -> str:
    share = "" if printed == samples else f"({100 * printed / samples:.0f} %)"
    if math.isnan(coverage):
        return share if printed else "-"
    return f"{100 * coverage:.0f} / {width:.1f} {share}".rstrip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table to a folder and a summary to the terminal."""
    parser = argparse.ArgumentParser(prog="python -m segscale.bench.analysis.coverage", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="files go to its folder analysis")
    parser.add_argument("--quick", action="store_true", help="few samples, in seconds; tells that it runs, no more")
    parser.add_argument("--seed", type=int, default=0, help="of the first of five invented datasets per population")
    options = parser.parse_args(arguments)
    cells = simulate(QUICK if options.quick else Effort(range(options.seed, options.seed + 5)))
    folder = options.results / "analysis"
    text = f"{summary(cells)}\n\n{full_table(cells)}\n"
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stem = "-".join(["coverage", *["quick"] * options.quick, *[f"seed{options.seed}"] * bool(options.seed)])
        for ending, content in (("csv", cells.to_csv(index=False, float_format="%.4f")), ("md", text)):
            with replaced(folder / f"{stem}.{ending}") as file:
                file.write(content)
    sys.stdout.write(f"{summary(cells)}\n")


if __name__ == "__main__":
    main()
