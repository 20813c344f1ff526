"""A run that was never computed, as its store describes it."""

from __future__ import annotations

import numpy as np

from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.runs.identity import BackboneIdentity, MethodIdentity, RunPlan
from segscale.bench.runs.parts import ImageRecord
from segscale.bench.runs.record import Machine, StoredRun
from segscale.bench.tasks.identity import DatasetIdentity, ProtocolIdentity, TableRules, TaskIdentity
from segscale.datasets.dataset import Digests

PLAN = RunPlan(
    BackboneIdentity(
        "b", "weights", "float32", "float32", None, None, None, untrained=False, packaged=False, options={}
    ),
    MethodIdentity("m", "", normalised=True, attention=None, parameters={"order": 1, "sites": ["a", "b"]}),
    TaskIdentity(
        DatasetIdentity("d", "d", "val", "digest of the ids", {}),
        ProtocolIdentity("p", "", False, (0.0, 0.5), class_names="digest", rules={"void": "ignored"}),
    ),
    seed=0,
    version="1",
)


def new_run(plan: RunPlan) -> StoredRun:
    """A run of three classes, none of whose images is stored."""
    rules = TableRules(0.0, "all", oracle_protocol=None)
    return StoredRun(
        plan.run_id, plan, rules, ("x", "y", "z"), 0, split_images=3, machine=Machine("Linux", "x86_64", 2)
    )


def record(image: str, value: int = 1) -> ImageRecord:
    """One image of it, with 10 ``value`` pixels."""
    intersection = np.full((2, 3), value)
    return image_record(image, PixelCounts(intersection, intersection + 1, value + np.arange(3)), 10 * value)


def image_record(image: str, counts: PixelCounts, pixels: int) -> ImageRecord:
    """An image with these counts."""
    return ImageRecord(image, 0.5, 10, pixels, counts, Digests(f"image of {image}", f"label of {image}"))
