from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from segscale.bench.evaluation.decision import NO_CLASS, BackgroundRule, Decision
from segscale.bench.evaluation.labelling import resize_scores
from segscale.bench.evaluation.metrics import class_iou, mean_iou
from segscale.methods.method import ClassScores

from .label_maps import count_label_map, count_scores, label_maps

CLASSES = 6
THRESHOLDS = (-0.5, -0.25, 0.0, 0.25, 0.75)
RULES: tuple[BackgroundRule, ...] = ("offset", "fixed", "max", "exact", "average", "none")


@dataclass(frozen=True)
class Case:
    scores: ClassScores
    ids: tuple[int, ...]
    decision: Decision
    label: np.ndarray
    ignored_ids: frozenset[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rule = draw(st.sampled_from(RULES))
    background = None if rule == "none" else draw(st.integers(0, CLASSES - 1))
    ids = tuple(draw(st.permutations([i for i in range(CLASSES) if i != background])))[: draw(st.integers(0, CLASSES))]
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    # Coarse values, so that ties happen, and maps at label size or smaller.
    side = size if draw(st.booleans()) else (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    values = rng.integers(-3, 4, (len(ids) + 1, *side)).astype(np.float32) / 4
    values[rng.random(values.shape) < draw(st.sampled_from([0, 0.2]))] = np.nan
    maps = torch.from_numpy(values)
    label = rng.integers(0, CLASSES, size).astype(np.uint8)
    label[rng.random(size) < 0.3] = 255
    thresholds = (0.0,) if rule in ("exact", "none") else THRESHOLDS[: draw(st.integers(1, len(THRESHOLDS)))]
    decision = Decision(CLASSES, background, rule, thresholds, draw(st.sampled_from(["excluded", "zero"])))
    return Case(ClassScores(maps[:-1], maps[-1]), ids, decision, label, frozenset({255}) | draw(st.sets(st.just(0))))


def stacked_argmax(case: Case, threshold: float) -> np.ndarray:
    """The definition: every channel at full size, background first, one argmax."""

    def resized(score: torch.Tensor) -> np.ndarray:
        return F.interpolate(score[None, None], size=case.label.shape, mode="bilinear")[0, 0].numpy()

    t = np.float32(threshold)
    channels: list[tuple[int, np.ndarray]] = []
    if case.decision.background_id is not None:
        b = resized(case.scores.background)
        value = {
            "offset": b + t,
            "fixed": np.full_like(b, t),
            "max": np.maximum(b, t),
            "exact": b,
            "average": (b + t) / np.float32(2),
        }[case.decision.rule]
        channels.append((case.decision.background_id, value))
    for i in range(CLASSES):
        if i in case.ids:
            channels.append((i, resized(case.scores.classes[case.ids.index(i)])))
        elif i != case.decision.background_id and case.decision.absent == "zero":
            channels.append((i, np.zeros(case.label.shape, np.float32)))
    if not channels:
        return np.full(case.label.shape, NO_CLASS)
    return np.array([i for i, _ in channels])[np.stack([value for _, value in channels]).argmax(0)]


@settings(max_examples=500, deadline=None)
@given(cases())
def test_every_rule_equals_an_argmax_over_all_channels(case: Case) -> None:
    ours = label_maps(case.scores, case.ids, case.decision, case.label.shape)
    for labels, threshold in zip(ours, case.decision.thresholds, strict=True):
        assert np.array_equal(labels, stacked_argmax(case, threshold))


@settings(max_examples=500, deadline=None)
@given(cases())
def test_a_sweep_counts_what_one_label_map_per_threshold_counts(case: Case) -> None:
    swept = count_scores(case.scores, case.ids, case.decision, case.label, case.ignored_ids)
    counted = ~np.isin(case.label, list(case.ignored_ids))
    assert swept.label_area.sum() == np.count_nonzero(counted)
    for index, threshold in enumerate(case.decision.thresholds):
        predicted, true = stacked_argmax(case, threshold)[counted], case.label[counted]
        for i in range(CLASSES):
            assert swept.intersection[index, i] == np.count_nonzero((predicted == i) & (true == i))
            assert swept.predicted_area[index, i] == np.count_nonzero(predicted == i)
            assert swept.label_area[i] == np.count_nonzero(true == i)
    assert {part.dtype for part in (swept.intersection, swept.predicted_area, swept.label_area)} == {np.dtype(np.int64)}


@settings(max_examples=100, deadline=None)
@given(cases())
def test_background_only_grows_with_the_threshold(case: Case) -> None:
    swept = count_scores(case.scores, case.ids, case.decision, case.label, case.ignored_ids)
    if case.decision.background_id is not None:
        assert (np.diff(swept.predicted_area[:, case.decision.background_id]) >= 0).all()


def test_the_winner_is_an_argmax_with_background_first() -> None:
    scores = ClassScores(torch.tensor([[[0.5, 0.9, 0.2]], [[0.5, 0.1, torch.nan]]]), torch.tensor([[0.5, 0.0, 0.9]]))
    decision = Decision(CLASSES, 0, "offset", (-0.1, 0.0), "excluded")
    assert label_maps(scores, (2, 4), decision, (1, 3)).tolist() == [[[2, 2, 4]], [[0, 2, 4]]]
    assert label_maps(scores, (4, 2), decision, (1, 3)).tolist() == [[[2, 4, 2]], [[0, 4, 2]]]
    scores = ClassScores(scores.classes, torch.full((1, 3), torch.nan))
    assert label_maps(scores, (2, 4), decision, (1, 3)).tolist() == [[[0, 0, 0]]] * 2


def test_absent_classes_win_where_all_else_is_below_zero() -> None:
    scores = ClassScores(torch.tensor([[[-0.5, 0.0, 0.1, -0.5]]]), torch.tensor([[0.1, 0.1, 0.1, 0.5]]))
    decision = Decision(CLASSES, 0, "offset", (-0.2,), "zero")
    assert label_maps(scores, (3,), decision, (1, 4)).tolist() == [[[1, 1, 3, 0]]]
    assert label_maps(scores, (1,), decision, (1, 4)).tolist() == [[[2, 1, 1, 0]]]
    excluded = Decision(CLASSES, 0, "offset", (-0.2,), "excluded")
    assert label_maps(scores, (3,), excluded, (1, 4)).tolist() == [[[0, 3, 3, 0]]]


@pytest.mark.parametrize(
    ("background", "rule", "thresholds"),
    [
        (0, "none", (0.0,)),
        (None, "offset", (0.0,)),
        (0, "exact", (0.0, 0.1)),
        (0, "offset", (0.1, 0.0)),
        (0, "max", ()),
    ],
)
def test_rules_that_contradict_themselves_are_errors(
    background: int | None, rule: BackgroundRule, thresholds: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError):
        Decision(CLASSES, background, rule, thresholds, "zero")


@pytest.mark.parametrize("ids", [(0, 1), (1, 1), (1,), (1, 6)])
def test_class_ids_that_do_not_fit_the_maps_are_errors(ids: tuple[int, ...]) -> None:
    scores = ClassScores(torch.zeros(2, 1, 1), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="class ids"):
        label_maps(scores, ids, Decision(CLASSES, 0, "offset", (0.0,), "zero"), (1, 1))


# Names of the published evaluation's background methods.
PUBLISHED_RULES: dict[str, BackgroundRule] = {
    "offset": "offset",
    "vanilla": "fixed",
    "max": "max",
    "avg": "average",
    "exact": "exact",
}
PUBLISHED_CLASSES = 21


def published_case(parity: Path, name: str) -> tuple[dict, dict[str, np.ndarray], ClassScores, tuple[int, ...]]:
    about = json.loads((parity / f"{name}.json").read_text())
    tensors = load_file(parity / f"{name}.safetensors")
    maps = torch.from_numpy(tensors[about["eval"].get("uses") or about["eval_uses"]])
    order = about.get("present_objects_order") or about["prompt"]["present_objects_order"]
    return about["eval"], tensors, ClassScores(maps[:-1], maps[-1]), tuple(order)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((f"method-{family}.goca", method) for family in ("unet", "dit", "flux") for method in PUBLISHED_RULES),
        ("method-unet.vanilla", "offset"),
        ("method-unet.vanilla", "vanilla"),
    ],
)
def test_goca_label_maps_counts_and_means(goca_method_cases: Path, name: str, method: str) -> None:
    evaluation, tensors, scores, ids = published_case(goca_method_cases, name)
    published, label = evaluation["methods"][method], tensors["eval/label"]
    decision = Decision(PUBLISHED_CLASSES, 0, PUBLISHED_RULES[method], tuple(published["thresholds"]), "zero")
    labels = label_maps(scores, ids, decision, label.shape)
    assert np.array_equal(labels, tensors[f"eval/{method}/label_map"])
    counts = count_scores(scores, ids, decision, label, ())
    union = counts.predicted_area + counts.label_area - counts.intersection
    assert counts.intersection.tolist() == published["intersections"]
    assert union.tolist() == published["unions"]
    means = mean_iou(counts.intersection, counts.predicted_area, counts.label_area, "every-class")
    assert np.allclose(means, published["miou"], rtol=0, atol=1e-12)


def test_goca_counts_add_up_over_images(goca_method_cases: Path) -> None:
    published = json.loads((goca_method_cases / "method-eval-accumulated.json").read_text())
    decision = Decision(PUBLISHED_CLASSES, 0, "offset", tuple(published["thresholds"]), "zero")
    total = np.zeros((3, len(decision.thresholds), PUBLISHED_CLASSES), np.int64)
    for name in published["images"]:
        _, tensors, scores, ids = published_case(goca_method_cases, name)
        counts = count_scores(scores, ids, decision, tensors["eval/label"], ())
        total += np.stack(
            [counts.intersection, counts.predicted_area, np.broadcast_to(counts.label_area, total.shape[1:])]
        )
    intersection, prediction, label = total
    assert intersection.tolist() == published["intersections"]
    assert (prediction + label - intersection).tolist() == published["unions"]
    assert np.allclose(mean_iou(intersection, prediction, label, "every-class"), published["miou"], rtol=0, atol=1e-12)


def test_goca_end_to_end(goca_parity: Path) -> None:
    evaluation, tensors, scores, ids = published_case(goca_parity, "end2end-sd15")
    published = evaluation["methods"]["offset"]
    decision = Decision(PUBLISHED_CLASSES, 0, "offset", tuple(published["thresholds"]), "zero")
    label = tensors["eval/label"]
    labels = label_maps(scores, ids, decision, label.shape)
    assert np.array_equal(labels[published["thresholds"].index(0)], tensors["eval/offset/label_map_at_0"])
    counts = count_scores(scores, ids, decision, label, ())
    assert counts.intersection.tolist() == published["intersections"]
    assert counts.predicted_area.tolist() == published["predicted_pixels_per_class"]
    assert (counts.predicted_area + counts.label_area - counts.intersection).tolist() == published["unions"]
    means = mean_iou(counts.intersection, counts.predicted_area, counts.label_area, "every-class")
    assert np.allclose(means, published["miou"], rtol=0, atol=1e-12)


def test_goca_degenerate_prompts(goca_method_cases: Path) -> None:
    cases = json.loads((goca_method_cases / "method-edge.json").read_text())["cases"]
    tensors = load_file(goca_method_cases / "method-edge.safetensors")
    evaluated = [case for case in cases if f"{case['name']}/label_map_offset" in tensors]
    assert {"empty-class", "reversed-order", "nothing"} <= {case["name"] for case in evaluated}
    for case in evaluated:
        maps = torch.from_numpy(tensors[f"{case['name']}/affinity_order2"])
        scores, ids = ClassScores(maps[:-1], maps[-1]), tuple(case["present_objects_order"])
        decision = Decision(PUBLISHED_CLASSES, 0, "offset", tuple(case["offset_thresholds"]), "zero")
        labels = label_maps(scores, ids, decision, tensors["label"].shape)
        assert np.array_equal(labels, tensors[f"{case['name']}/label_map_offset"]), case["name"]
        counts = count_scores(scores, ids, decision, tensors["label"], ())
        assert counts.intersection.tolist() == case["intersections"], case["name"]
        assert (counts.predicted_area + counts.label_area - counts.intersection).tolist() == case["unions"], case[
            "name"
        ]


SEG4DIFF_CASES = {
    "voc20": (20, frozenset({255})),
    "coco_object": (81, frozenset({255, 0})),
    "ade150": (150, frozenset({255})),
    "ade150_long": (150, frozenset({255})),
    "cityscapes": (19, frozenset({255})),
}


@pytest.mark.parametrize("family", ["sd3", "flux"])
@pytest.mark.parametrize("name", SEG4DIFF_CASES)
def test_seg4diff_label_maps_counts_and_means(seg4diff_parity: Path, family: str, name: str) -> None:
    classes, ignored_ids = SEG4DIFF_CASES[name]
    about = json.loads((seg4diff_parity / "oracle" / "meta.json").read_text())[f"{family}_{name}"]
    stored = np.load(seg4diff_parity / "oracle" / f"{family}_{name}.npz")
    label = np.asarray(Image.open(seg4diff_parity / "inputs" / about["gt"]))
    decision = Decision(classes, None, "none", (0.0,), "zero")
    variants = [key.removeprefix("label_") for key in stored if key.startswith("label_")]
    assert variants
    for variant in variants:
        maps = torch.from_numpy(stored[f"merged_{variant}"])
        scores = ClassScores(maps, torch.zeros(maps.shape[1:]))
        ids = tuple(int(i) for i in stored["gt_indices"])
        labels = label_maps(scores, ids, decision, label.shape)[0]
        assert np.array_equal(labels, stored[f"label_{variant}"]), variant
        counts = count_scores(scores, ids, decision, label, ignored_ids)
        again = count_label_map(labels, label, classes, ignored_ids)
        assert np.array_equal(counts.intersection, again.intersection)
        assert np.array_equal(counts.predicted_area, again.predicted_area)
        if f"score_{variant}" in stored:
            assert np.abs(resize_scores(maps, label.shape).numpy() - stored[f"score_{variant}"]).max() < 1e-6
        if f"eval_{variant}" in about:
            expected = about[f"eval_{variant}"]
            totals = (counts.intersection[0], counts.predicted_area[0], counts.label_area)
            assert 100 * mean_iou(*totals, "in-ground-truth") == pytest.approx(expected["mIoU"], abs=1e-9)
            assert 100 * totals[0].sum() / totals[2].sum() == pytest.approx(expected["pACC"], abs=1e-9)
            if "iou" in expected:
                iou, labelled = class_iou(*totals), np.flatnonzero(counts.label_area)
                assert {str(i): pytest.approx(iou[i], abs=1e-12) for i in labelled} == expected["iou"]
            _matches_confusion(stored, variant, counts.intersection[0], counts.predicted_area[0], counts.label_area)


def _matches_confusion(
    stored: dict, variant: str, intersection: np.ndarray, prediction: np.ndarray, label: np.ndarray
) -> None:
    """Against the counts [prediction, label] of the listed classes; the last listed index is what is ignored."""
    if f"confusion_{variant}" not in stored:
        return
    index = stored["confusion_index"]
    scored = np.flatnonzero((index < len(label)) & (np.isin(index, np.flatnonzero(label))))
    confusion = stored[f"confusion_{variant}"]
    assert confusion.diagonal()[scored].tolist() == intersection[index[scored]].tolist()
    assert confusion[:, scored].sum(0).tolist() == label[index[scored]].tolist()
    assert confusion[np.ix_(scored, scored)].sum(1).tolist() == prediction[index[scored]].tolist()
