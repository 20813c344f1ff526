from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from segscale.backbones.backbone import Backbone
from segscale.bench.report.tables import evaluate_runs, evaluate_store, long_table
from segscale.bench.runs import loop as run
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.plan import RunOptions, build_dataset, build_method, make_plan
from segscale.bench.runs.store import RunStore
from segscale.methods.goca import GoCA
from segscale.methods.method import Method

from segscale.registry import build

CELL = ("pocket", "standard")


def stored(store: RunStore) -> pd.DataFrame:
    frame = store.load()[["image", "intersection", "prediction", "label"]]
    return frame.map(lambda value: value if isinstance(value, str) else tuple(value))


def methods(*names: str, backbone: str = "pocket-sd15") -> list[Method]:
    """By name; ``one-site`` is vanilla on one site."""
    built = [build_method("vanilla" if name == "one-site" else name, backbone) for name in names]
    for name, method in zip(names, built, strict=True):
        if name == "one-site":
            assert isinstance(method, GoCA)
            method.name, method.text_sites = name, ("mid-vit-block0",)
    return built


def test_methods_share_a_forward_and_get_what_they_get_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards = 0
    names = ("vanilla", "baseline", "goca", "goca-heads", "goca-layers", "goca-rescale")
    denoise = Backbone.observe

    def counted(self: Backbone, *arguments: object, **keywords: object) -> object:
        nonlocal forwards
        forwards += 1
        return denoise(self, *arguments, **keywords)

    monkeypatch.setattr(Backbone, "observe", counted)
    together = run_methods("pocket-sd15", methods(*names), *CELL, RunOptions(limit=5, results=tmp_path / "together"))
    assert forwards == 5
    for name, store in zip(names, together, strict=True):
        (alone,) = run_methods("pocket-sd15", methods(name), *CELL, RunOptions(limit=5, results=tmp_path / name))
        assert alone.folder.name == store.folder.name
        pd.testing.assert_frame_equal(stored(store), stored(alone))


def test_a_new_method_joins_a_stored_run_and_computes_only_itself(tmp_path: Path) -> None:
    options = RunOptions(limit=3, results=tmp_path)
    (first,) = run_methods("pocket-sd15", methods("vanilla"), *CELL, options)
    seconds = first.load()["seconds"].tolist()
    assert len(run_methods("pocket-sd15", methods("vanilla", "one-site"), *CELL, options)) == 2
    assert first.load()["seconds"].tolist() == seconds


def test_results_do_not_depend_on_the_order_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (forwards,) = run_methods("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=6, results=tmp_path / "a"))
    loop = run._loop
    monkeypatch.setattr(run, "_loop", lambda m, c, d, p, indices, o: loop(m, c, d, p, indices[::-1], o))
    (backwards,) = run_methods("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=6, results=tmp_path / "b"))
    pd.testing.assert_frame_equal(stored(forwards), stored(backwards))


def test_an_image_without_classes_is_all_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscale.bench.tasks.protocol.Protocol.present_classes", lambda *_: ())
    monkeypatch.setattr(Backbone, "capture", lambda *_: pytest.fail("needs no forward"))
    (store,) = run_methods("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=2, results=tmp_path))
    one = evaluate_store(store)
    prediction = one.frame["prediction"].iloc[0].reshape(len(one.protocol.thresholds), 13)
    assert (prediction[:, 0] == 64 * 64).all()
    assert 0 < one.score.accuracy < 1


def test_rows_carry_what_a_number_needs(tmp_path: Path) -> None:
    run_methods("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=3, seed=7, untrained=True, results=tmp_path))
    (row,) = long_table(evaluate_runs(tmp_path)).to_dict("records")
    assert (row["backbone"], row["images"], row["split_images"]) == ("pocket-sd15 (untrained)", 3, 200)
    assert (row["seed"], row["protocol"], row["dtype"]) == (7, "standard", "float32")
    assert row["low"] <= row["miou"] <= row["high"]
    assert row["seconds_per_image"] > 0
    assert row["peak_mib"] > 0
    assert row["weights"]
    assert row["parameters"] > 1e6


def test_seed_dtype_split_and_weights_are_part_of_the_identity(tmp_path: Path) -> None:
    protocol = build("protocol", "standard")
    method = build_method("vanilla", "pocket-sd15")

    def identity(**choices: object) -> str:
        options = RunOptions(**choices)
        return make_plan("pocket-sd15", method, build_dataset("pocket", options), protocol, options).identity

    identities = [identity(), identity(seed=1), identity(split="calibration"), identity(untrained=True)]
    assert len(set(identities)) == 4
    assert identity(limit=3, results=tmp_path) == identities[0]


def test_real_photographs_run_to_per_class_iou(voc_mini: Path, tmp_path: Path) -> None:
    options = RunOptions(data_root=str(voc_mini), results=tmp_path)
    (store,) = run_methods("pocket-sd15", methods("vanilla"), "voc", "standard", options)
    one = evaluate_store(store)
    dataset = build("dataset", "voc", data_root=str(voc_mini))
    counted = sum(int((dataset[index].label != 255).sum()) for index in range(4))
    assert sum(sum(label) for label in one.frame["label"]) == counted
    present = {name for name, iou in zip(dataset.classes, one.score.class_iou, strict=True) if iou == iou}
    assert {"background", "person", "dog", "bicycle"} <= present


def test_one_seed_is_one_noise(tmp_path: Path) -> None:
    first, second = (
        run_methods("pocket-sd15", methods("vanilla"), *CELL, RunOptions(limit=2, seed=seed, results=tmp_path))[0]
        for seed in (0, 1)
    )
    assert not stored(first)["prediction"].equals(stored(second)["prediction"])
