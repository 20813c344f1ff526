from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segscale
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.bench import segmenter as segmenter_module
from segscale.bench.commands.main import main
from segscale.bench.evaluation.labelling import decide_pixels
from segscale.bench.inference.answers import MethodScores, ScoredImage
from segscale.bench.inference.score import AskedImage, Scoring
from segscale.bench.runs import loop
from segscale.bench.runs.options import RunOptions
from segscale.bench.segmenter import Segmenter
from segscale.bench.tasks.protocol import Protocol
from segscale.bench.tasks.task import Task
from segscale.datasets.dataset import Dataset, Sample
from segscale.datasets.labels import colour_map
from segscale.datasets.mmseg_import import import_mmseg
from segscale.datasets.pocket import OBJECTS, caption_of, make_scene
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.registry import build

from .cells import evaluated

BACKBONE = "pocket-sd3"
SCENE = make_scene(0, "val", 12)
LISTED = caption_of(SCENE.words, articles=False)
"""The caption as published ones are written: published methods take "a star" for another word than "star"."""


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return segscale.load("pocket-sd15", "vanilla")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(BACKBONE)


class OwnPicture(Dataset):
    """The scene alone, its objects as classes; name and image id, and so the noise, are those of one's own picture."""

    name = benchmark = "predict"
    split, splits = "val", ("val",)
    classes = ("background", *SCENE.objects)
    palette = colour_map(len(classes))
    background = 0
    ids = ("",)

    def __init__(self, caption: str | None) -> None:
        self.caption = caption

    def __getitem__(self, index: int) -> Sample:
        label = np.zeros_like(SCENE.mask)
        for id, name in enumerate(SCENE.objects, 1):
            label[SCENE.mask == OBJECTS.index(name) + 1] = id
        return Sample(self.ids[index], Image.fromarray(SCENE.image), label, self.caption)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[MethodScores]:
    """What one method makes of every image that is scored from now on."""
    answer = Scoring.answer
    answers: list[MethodScores] = []

    def recording(self: Scoring, asked: Sequence[AskedImage]) -> list[ScoredImage]:
        scored = answer(self, asked)
        answers.extend(answer for image in scored for answer in image.by_method)
        return scored

    monkeypatch.setattr(Scoring, "answer", recording)
    return answers


READERS = ("vanilla", "goca", "goca-described")


@pytest.mark.parametrize(
    ("method_name", "caption"),
    [*((name, LISTED) for name in READERS), *((name, None) for name in (*READERS, "seg4diff"))],
)
def test_a_picture_is_segmented_as_a_run_segments_it(
    method_name: str, caption: str | None, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build_method(method_name, BACKBONE)
    protocol: Protocol = replace(build("protocol", "standard"), threshold=0.1)
    task = Task.of(protocol, OwnPicture(caption))
    answers = recorded(monkeypatch)
    segmentation = Segmenter(backbone, method, protocol)(Image.fromarray(SCENE.image), SCENE.objects, caption)
    (store,) = loop.run_methods(BACKBONE, [method], task, RunOptions(results=tmp_path))
    own, run = answers

    assert own.prompts == run.prompts
    assert len(own.scores.classes) == len(SCENE.objects) > 1
    for part in ("classes", "background", "evidence"):
        assert torch.equal(getattr(own.scores, part), getattr(run.scores, part)), part
    # The label map at the threshold that tables read, and the counts that the run stored of it.
    stored = evaluated(store)
    assert stored.threshold == (0.1 if method.normalised else 0.0)
    won = decide_pixels(run.scores, run.prompts.class_ids, task.decision, SCENE.mask.shape)
    prediction = won.label_maps(task.decision)[task.protocol.thresholds.index(stored.threshold)]
    assert np.array_equal(segmentation.labels, prediction)
    counts, label = stored.counts.at_threshold(stored.threshold), task.dataset[0].label
    assert [*segmentation.areas.values()] == counts.predicted_area[0].tolist()
    right = np.bincount(label[label == segmentation.labels], minlength=len(task.class_names))
    assert counts.intersection[0].tolist() == right.tolist()


@pytest.mark.parametrize(
    ("method_name", "caption"), [("vanilla", LISTED), ("goca-described", LISTED), ("goca-described", SCENE.caption)]
)
def test_it_finds_the_objects_of_a_scene(segmenter: Segmenter, method_name: str, caption: str) -> None:
    method = build_method(method_name, "pocket-sd15")
    segmenter = Segmenter(segmenter.backbone, method, segmenter.protocol)
    result = segmenter(Image.fromarray(SCENE.image), SCENE.objects, caption=caption)
    for index, name in enumerate(SCENE.objects, 1):
        true, found = SCENE.mask == OBJECTS.index(name) + 1, result.labels == index
        assert (true & found).sum() / (true | found).sum() > 0.4, name
    assert sum(result.areas.values()) == result.labels.size
    assert result.scores.shape == (len(SCENE.objects), *result.labels.shape)


def test_the_same_picture_gives_the_same_labels_at_its_own_size(segmenter: Segmenter) -> None:
    image = Image.fromarray(SCENE.image).resize((90, 50)).convert("RGBA")
    first, again = (segmenter(image, ["star", "ring"]) for _ in range(2))
    assert first.labels.shape == (50, 90)
    assert np.array_equal(first.labels, again.labels)
    assert first.overlay().size == (90, 50)


def test_background_is_left_as_it_is_in_the_overlay(segmenter: Segmenter) -> None:
    image = Image.fromarray(SCENE.image)
    result = segmenter(image, ["star", "ring"])
    same = (np.asarray(result.overlay()) == np.asarray(image)).all(-1)
    assert same[result.labels == 0].all()
    assert not same[result.labels > 0].all()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "no class to prompt"),
        (["star", "star"], "named twice"),
        ("dog", r"classes is one text; give a list, as in \['dog'\]"),
        ([3], r"class 3 is no text; give names, as in \['dog'\]"),
    ],
)
def test_class_lists_that_make_no_sense(segmenter: Segmenter, classes: Sequence[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        segmenter(Image.new("RGB", (64, 64)), classes)


def test_mistakes_of_a_program_are_one_line(segmenter: Segmenter, tmp_path: Path) -> None:
    image = Image.fromarray(SCENE.image)
    image.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:600])
    result = segmenter(image, ["star", "ring"])
    for work, message in (
        (lambda: segmenter(image, ["star"], seed=-1), "the seed is -1; name 0 or more"),
        (lambda: segmenter(image, ["star"], caption=" "), "the caption is empty; leave it out, or write one"),
        (lambda: segmenter(Image.open(tmp_path / "cut.png"), ["star"]), "the picture cannot be read"),
        (lambda: result.heat("starr"), "there is no class 'starr'; did you mean star?"),
        (lambda: result.cutout("background"), "there is no class 'background'; there are: star, ring"),
        (lambda: segscale.load(threshold=5), "threshold is 5; name a number from -1 to 1"),
        (lambda: segscale.load(threshold=float("nan")), "threshold is nan; name a number"),
        (lambda: segscale.load(devise="cuda"), "load: LoadOptions takes no 'devise'; did you mean device?"),  # pyright: ignore[reportCallIssue]
        (lambda: segscale.load(dtype="float8"), "load: dtype"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(segscale.UserError, match=re.escape(message)):
            work()
    assert {"UserError", "load", "trace"} <= {*dir(segscale)}


def test_a_class_that_the_published_rule_reads_as_part_of_a_phrase_is_one_line(segmenter: Segmenter) -> None:
    with pytest.raises(UserError, match="vanilla reads class 'star' as part of another word of 'a star, star';"):
        segmenter(Image.fromarray(SCENE.image), ["star"], "a star")


@pytest.mark.parametrize(
    ("method_name", "protocol_name", "message"),
    [
        ("seg4diff", "standard", "seg4diff reads no caption; leave it out, or name method goca-described"),
        ("genmask", "standard", "genmask reads no caption; leave it out, or name method goca-described"),
        (
            "vanilla",
            "standard-full",
            "protocol standard-full reads no caption; leave it out, or name protocol standard",
        ),
    ],
)
def test_a_caption_that_nothing_reads_is_one_line(
    method_name: str, protocol_name: str, message: str, segmenter: Segmenter
) -> None:
    backbone_name = "pocket-genmask" if method_name == "genmask" else "pocket-sd3"
    method = build_method(method_name, backbone_name)
    deaf = Segmenter(segmenter.backbone, method, build("protocol", protocol_name))
    with pytest.raises(UserError, match=message):
        deaf(Image.fromarray(SCENE.image), SCENE.objects, LISTED)


def test_predict_refuses_an_unread_caption_before_weights_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segmenter_module, "load", None)
    asked = ["--example", "--caption", "a star", "--backbone", "pocket-sd3", "--method", "seg4diff"]
    with pytest.raises(SystemExit):
        main(["predict", *asked, "--output", str(tmp_path / "out")])
    assert "seg4diff reads no caption" in capsys.readouterr().err


def test_a_prompt_that_is_too_long_is_one_line(segmenter: Segmenter) -> None:
    with pytest.raises(UserError, match="longer than the text encoder's 16 tokens and was cut before class 'flower'"):
        segmenter(Image.fromarray(SCENE.image), OBJECTS)


def test_the_palette_is_pascal_vocs() -> None:
    voc = import_mmseg("datasets").PascalVOCDataset.METAINFO["palette"]
    assert [list(colour) for colour in colour_map(21)] == voc


def test_a_class_that_the_caption_leaves_out_has_no_pixels(backbone: Backbone) -> None:
    rules = replace(build("protocol", "standard"), add_missing=False)
    segmenter = Segmenter(backbone, build_method("vanilla", BACKBONE), rules)
    classes = ("moon", *SCENE.objects)
    result = segmenter(Image.fromarray(SCENE.image), classes, LISTED)
    assert "moon" not in SCENE.objects
    assert result.areas["moon"] == 0
    assert not result.scores[0].any()
    assert all(scores.any() for scores in result.scores[1:])


def test_a_class_that_is_not_there_stays_dark_where_scores_are_greys() -> None:
    segmenter = segscale.load("pocket-genmask", "genmask")
    assert "ball" not in SCENE.objects
    assert segmenter(SCENE.image, ["ball"]).score_maps.max() < 0.5
    assert segmenter(SCENE.image, SCENE.objects[:1]).score_maps.max() > 0.5


@pytest.mark.parametrize(
    ("method_name", "protocol_name", "message"),
    [("seg4diff-masks", "standard", "masks without names"), ("vanilla", "goca", "chooses its threshold")],
)
def test_what_cannot_segment_is_refused_before_weights_are_loaded(
    method_name: str, protocol_name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter_module, "build_backbone", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(UserError, match=message):
        segscale.load("pocket-sd3", method_name, protocol=protocol_name)
