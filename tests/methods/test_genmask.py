"""GenMask: a mask per class from the denoiser's prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import segscale
from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.backbone import Backbone
from segscale.bench.evaluation.referring import referring_score
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.registry import build

from ..bench.cells import evaluated, run_named

BACKBONE = "pocket-genmask"


def asked(protocol_name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    task = build_task("pocket", build("protocol", protocol_name), RunOptions())
    method = build_method("genmask", BACKBONE)
    backbone = None if protocol_name != "standard-full" else _Named()
    prompts = task.prompts(method, task.dataset[0], backbone)  # pyright: ignore[reportArgumentType]
    return prompts.texts, prompts.class_ids


class _Named:
    """What a prompt rule that looks at no tokenizer needs of a backbone."""

    name = BACKBONE


def test_every_class_is_asked_by_itself() -> None:
    task = build_task("pocket", build("protocol", "standard"), RunOptions())
    present = task.present_classes(task.dataset[0])
    names = [task.dataset.classes[id] for id in present]
    for protocol_name in ("standard", "goca"):
        assert asked(protocol_name) == (tuple(f"a {name}" for name in names), present)
    assert asked("standard-full") == (tuple(f"a {name}" for name in task.dataset.classes[1:]), tuple(range(1, 13)))


def test_scores_are_the_grey_of_the_mask_and_background_is_one_half() -> None:
    picture = torch.full((3, 4, 4), -1.0)
    picture[:, 0] = 1.0
    picture[0, 1, 1] = 1.0
    scores = build_method("genmask", BACKBONE)(AttentionMaps({}, (), picture=picture))
    assert scores.classes.shape == (1, 4, 4)
    assert scores.classes[0, 0].tolist() == [1.0] * 4
    assert scores.classes[0, 1, 1].item() == pytest.approx(1 / 3)
    assert scores.classes[0, 2:].abs().max() == 0
    assert (scores.background == 0.5).all()


def test_greys_are_shown_within_black_and_white_and_no_threshold_moves_their_edge() -> None:
    shown = build_method("genmask", BACKBONE).shown(torch.tensor([[[-0.25, 0.25, 1.25]]]))
    assert shown.tolist() == [[[0.0, 0.25, 1.0]]]
    with pytest.raises(UserError, match="genmask has an edge of its own, which no threshold moves; name another"):
        segscale.load(BACKBONE, "genmask", threshold=0.2)


def test_it_runs_where_masks_are_drawn_alone() -> None:
    standard = build("protocol", "standard")
    assert "genmask" in [method.name for method in build_methods(None, BACKBONE, standard)]
    assert "genmask" not in [method.name for method in build_methods(None, "pocket-sd3", standard)]
    with pytest.raises(UserError, match="genmask reads masks that pocket-sd3 was not taught to draw"):
        build_methods(["genmask"], "pocket-sd3", standard)


def test_a_batch_of_classes_and_images_gives_the_same_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observe, rows = Backbone.observe, list[int]()

    def counted(self: Backbone, images: list[object], *arguments: object, **keywords: object) -> object:
        rows.append(len(images))
        return observe(self, images, *arguments, **keywords)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Backbone, "observe", counted)
    counts = []
    for batch in (1, 8):
        options = RunOptions(limit=4, results=tmp_path / str(batch), batch=batch)
        (store,) = run_named(BACKBONE, ["genmask"], "pocket", "standard-full", options)
        counts.append(store.load(store.read()))
    assert rows == [1] * 48 + [8] * 6
    one, many = counts
    assert one.forwards.tolist() == [12] * 4
    assert np.abs(one.predicted_area - many.predicted_area).max() <= 2


def test_masks_of_held_out_scenes_in_one_step(tmp_path: Path) -> None:
    """The shipped twin keeps what docs/genmask.md says of 200 scenes, on a few of them."""
    options = RunOptions(limit=40, results=tmp_path, batch=20)
    (store,) = run_named(BACKBONE, ["genmask"], "pocket", "standard", options)
    run = evaluated(store)
    assert run.threshold_from == "none"
    counts = run.counts.at_threshold(0.0)
    objects = slice(1, None)
    areas = (part[:, objects].sum() for part in (counts.intersection, counts.predicted_area, counts.label_area))
    intersection, predicted, label = areas
    assert intersection / (predicted + label - intersection) > 0.8
    (store,) = run_named(BACKBONE, ["genmask"], "pocket-referring", "referring", options)
    assert referring_score(evaluated(store).counts.at_threshold(0.0), 1).ciou.value > 0.5
