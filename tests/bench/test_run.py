from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from segscale.backbones.backbone import Backbone
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.tables import long_table
from segscale.bench.runs import loop
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.parts import COUNTS
from segscale.bench.runs.plan import build_task, make_plan, plan_backbone
from segscale.bench.runs.store import RunStore
from segscale.methods.build import build_method
from segscale.methods.method import Method
from segscale.registry import build

from .cells import evaluated, run_cell

CELL = ("pocket", "standard")


def stored(store: RunStore) -> pd.DataFrame:
    counts = store.load(store.read())
    columns = {name: [row.tobytes() for row in getattr(counts, name)] for name in COUNTS}
    return pd.DataFrame({"image": counts.images, **columns})


def methods(*names: str, backbone: str = "pocket-sd15") -> list[Method]:
    """By name; ``one-site`` is vanilla on one site."""
    one_site = {"variant": "@mid", "text_sites": ("mid-vit-block0",)}
    return [
        build_method("vanilla", backbone, **one_site) if name == "one-site" else build_method(name, backbone)
        for name in names
    ]


def test_methods_share_a_forward_and_get_what_they_get_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards = 0
    names = ("vanilla", "baseline", "goca", "goca-heads", "goca-layers", "goca-rescale")
    denoise = Backbone.observe

    def counted(self: Backbone, *arguments: object, **keywords: object) -> object:
        nonlocal forwards
        forwards += 1
        return denoise(self, *arguments, **keywords)

    monkeypatch.setattr(Backbone, "observe", counted)
    together = run_cell("pocket-sd15", methods(*names), *CELL, RunOptions(limit=5, results=tmp_path / "together"))
    assert forwards == 5
    for name, store in zip(names, together, strict=True):
        (alone,) = run_cell("pocket-sd15", methods(name), *CELL, RunOptions(limit=5, results=tmp_path / name))
        assert alone.folder.name == store.folder.name
        pd.testing.assert_frame_equal(stored(store), stored(alone))


def test_a_new_method_joins_a_stored_run_and_computes_only_itself(tmp_path: Path) -> None:
    options = RunOptions(limit=3, results=tmp_path)
    (first,) = run_cell("pocket-sd15", methods("vanilla"), *CELL, options)
    seconds = first.load(first.read()).seconds.tolist()
    assert len(run_cell("pocket-sd15", methods("vanilla", "one-site"), *CELL, options)) == 2
    assert first.load(first.read()).seconds.tolist() == seconds


def test_results_do_not_depend_on_the_order_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (forwards,) = run_cell("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=6, results=tmp_path / "a"))
    over = loop._Loop.over
    monkeypatch.setattr(loop._Loop, "over", lambda self, indices: over(self, indices[::-1]))
    (backwards,) = run_cell("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=6, results=tmp_path / "b"))
    pd.testing.assert_frame_equal(stored(forwards), stored(backwards))


@pytest.mark.parametrize("prompt", ["caption", "class-names"])
def test_an_image_without_classes_is_all_background(
    prompt: Literal["caption", "class-names"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segscale.bench.tasks.task.Task.present_classes", lambda *_: ())
    if prompt == "class-names":
        monkeypatch.setattr(Backbone, "observe", lambda *_: pytest.fail("there is nothing to prompt"))
    options = RunOptions(limit=2, results=tmp_path)
    task = build_task("pocket", replace(build("protocol", "standard"), prompt=prompt), options)
    (store,) = run_methods("pocket-sd15", methods("vanilla"), task, options)
    one = evaluated(store)
    assert one.counts.predicted_area.shape == (2, 17, 13)
    assert (one.counts.predicted_area[0, :, 0] == 64 * 64).all()
    assert 0 < one.score.accuracy < 1


def test_rows_carry_what_a_number_needs(tmp_path: Path) -> None:
    run_cell("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=3, seed=7, untrained=True, results=tmp_path))
    (row,) = long_table(evaluate_runs(tmp_path)).to_dict("records")
    assert (row["backbone"], row["images"], row["split_images"]) == ("pocket-sd15 (untrained)", 3, 200)
    assert (row["seed"], row["protocol"], row["dtype"]) == (7, "standard", "float32")
    assert "classes labelled in fewer than 5 images" in row["no_interval"]
    assert row["seconds_per_image"] > 0
    assert row["peak_mib"] > 0
    assert row["weights"]
    assert row["parameters"] > 1e6


def test_seed_dtype_split_and_weights_are_part_of_the_identity(tmp_path: Path) -> None:
    protocol = build("protocol", "standard")
    method = build_method("vanilla", "pocket-sd15")

    def identity(**choices: object) -> str:
        options = RunOptions(**choices)
        task = build_task("pocket", protocol, options)
        return make_plan(plan_backbone("pocket-sd15", options).identity, method, task, options.seed).run_id

    identities = [identity(), identity(seed=1), identity(split="calibration"), identity(untrained=True)]
    assert len(set(identities)) == 4
    assert identity(limit=3, results=tmp_path) == identities[0]


def test_real_photographs_run_to_per_class_iou(voc_mini: Path, tmp_path: Path) -> None:
    options = RunOptions(data_root=str(voc_mini), results=tmp_path)
    (store,) = run_cell("pocket-sd15", methods("vanilla"), "voc", "standard", options)
    one = evaluated(store)
    dataset = build("dataset", "voc", data_root=str(voc_mini))
    counted = sum(int((dataset[index].label != 255).sum()) for index in range(4))
    assert one.counts.label_area.sum() == counted
    present = {name for name, iou in zip(dataset.classes, one.score.class_iou, strict=True) if iou == iou}
    assert {"background", "person", "dog", "bicycle"} <= present


def test_one_seed_is_one_noise(tmp_path: Path) -> None:
    first, second = (
        run_cell("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=2, seed=seed, results=tmp_path))[0]
        for seed in (0, 1)
    )
    assert not stored(first)["predicted_area"].equals(stored(second)["predicted_area"])
