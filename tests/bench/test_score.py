"""How questions share forwards, and how their answers are merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segscale.backbones.backbone import Backbone
from segscale.bench.inference.answers import merge_groups
from segscale.bench.runs.options import RunOptions
from segscale.methods.build import build_method, method_defaults
from segscale.methods.method import ClassScores, Method

from .cells import run_cell, run_named

BACKBONE = "pocket-sd3"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.integers(1, 5))
def test_groups_are_scaled_by_their_evidence_whatever_the_grouping(evidence: list[float], cut: int) -> None:
    cut = min(cut, len(evidence) - 1)
    weights = torch.tensor(evidence)
    generator = torch.Generator().manual_seed(cut)
    maps, background = torch.rand(len(evidence), 3, 3, generator=generator), torch.rand(3, 3, generator=generator)
    parts = [slice(0, cut), slice(cut, None)]
    groups = [ClassScores(maps[part], background, weights[part]) for part in parts]
    together = merge_groups(groups)
    torch.testing.assert_close(together.classes, maps * (weights / weights.max())[:, None, None])
    torch.testing.assert_close(together.classes, merge_groups([ClassScores(maps, background, weights)]).classes)
    torch.testing.assert_close(together.background, background)


def counted_forwards(methods: list[Method], path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[float]]:
    """Forwards of four images, and what every run says of them."""
    observe, forwards = Backbone.observe, 0

    def counted(self: Backbone, *arguments: object, **keywords: object) -> object:
        nonlocal forwards
        forwards += 1
        return observe(self, *arguments, **keywords)

    monkeypatch.setattr(Backbone, "observe", counted)
    stores = run_cell(BACKBONE, methods, "pocket", "standard", RunOptions(limit=4, results=path))
    return forwards, [store.load(store.read()).forwards_together.mean() for store in stores]


def test_seg4diff_shares_a_forward_where_prompt_and_noised_image_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goca = build_method("goca", BACKBONE)
    shared = {"timestep": method_defaults(BACKBONE).timestep, "resize": "bicubic", "posterior": "sample"}
    alike = build_method("seg4diff-described", BACKBONE, name="alike", **shared)
    assert counted_forwards([goca, alike], tmp_path / "alike", monkeypatch) == (4, [1, 1])


def test_a_run_says_how_many_forwards_an_image_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("goca", "vanilla", "seg4diff", "seg4diff-described")
    methods = [build_method(name, BACKBONE) for name in names]
    forwards, per_image = counted_forwards(methods, tmp_path, monkeypatch)
    assert forwards == 12
    assert per_image == [3] * 4


def test_a_run_says_whether_captions_made_its_prompts(tmp_path: Path) -> None:
    options = RunOptions(limit=2, results=tmp_path)
    for protocol_name, captioned in (("standard", 2), ("standard-full", 0)):
        (store,) = run_named(BACKBONE, ["goca"], "pocket", protocol_name, options)
        counts = store.load(store.read())
        assert (counts.captioned.sum(), len(counts)) == (captioned, 2)
    longer = RunOptions(limit=3, results=tmp_path)
    stores = run_named(BACKBONE, ["goca", "seg4diff"], "pocket", "standard", longer)
    resumed, names = (store.load(store.read()) for store in stores)
    assert (resumed.captioned.sum(), len(resumed)) == (3, 3)
    assert (names.captioned.sum(), len(names)) == (0, 3)
