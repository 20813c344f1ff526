from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segscale.backbones.attention.modalities import observe_modalities
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.bench.analysis.modalities import ANALYSES, averages, measure
from segscale.bench.commands.main import main
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.task import Task
from segscale.datasets.dataset import Dataset, Sample
from segscale.datasets.prompts.described import described_prompt
from segscale.errors import UserError
from segscale.methods.method import PromptRule
from segscale.registry import build

SETTINGS = CaptureSettings(64, Timestep(t=110))


class Reordered(Dataset):
    """Some images of a dataset, in an order of one's own."""

    def __init__(self, dataset: Dataset, order: Sequence[int]) -> None:
        self.dataset, self.order = dataset, order
        self.splits = dataset.splits
        self.classes, self.palette, self.background = dataset.classes, dataset.palette, dataset.background
        super().__init__(name=dataset.name, split=dataset.split)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.dataset.ids[index] for index in self.order)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.order[index]]


@pytest.fixture(scope="module")
def model() -> Backbone:
    return build_backbone("pocket-sd3")


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("pocket", build("protocol", "standard"), RunOptions())


@pytest.mark.parametrize("backbone", ["pocket-sd3", "pocket-flux"])
@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_command_prints_its_table_and_writes_the_same_files_again(
    backbone: str, analysis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[list[bytes]] = []
    stem = f"{backbone}-pocket-val-standard-t200-{analysis}-first2"
    for folder in (tmp_path / "one", tmp_path / "two"):
        main([analysis, backbone, "--limit", "2", "--timestep", "200", "--results", str(folder)])
        files = [folder / "analysis" / f"{stem}.{ending}" for ending in ("csv", "png")]
        written.append([path.read_bytes() for path in files])
    printed = capsys.readouterr().out
    assert written[0] == written[1]
    assert written[0][1].startswith(b"\x89PNG")
    assert f"{backbone} on pocket val, 2 images, timestep 200: " in printed
    assert f"wrote {tmp_path}/one/analysis/{stem}.csv" in printed
    table = pd.read_csv(tmp_path / "one" / "analysis" / f"{stem}.csv")
    blocks = len(build_backbone(backbone).sites(64))
    assert table["measure"].tolist() == [*ANALYSES[analysis].labels] * blocks
    assert table["layer"].is_monotonic_increasing
    low, mean, high = table[["low", "mean", "high"]].to_numpy().T
    assert (low <= mean).all()
    assert (mean <= high).all()
    facts = ["backbone", "dataset", "split", "protocol", "images", "timestep", "seed"]
    assert table.loc[0, facts].tolist() == [backbone, "pocket", "val", "standard", 2, 200, 0]
    means = table.pivot(index="site", columns="measure", values="mean")
    if analysis == "modalities":
        np.testing.assert_allclose(means["i2i"] + means["i2t"], 1, atol=1e-5)
        np.testing.assert_allclose(means["t2i"] + means["t2t"], 1, atol=1e-5)
    else:
        assert (means > 0).all(axis=None)


def test_the_command_averages_what_single_images_give(model: Backbone, task: Task) -> None:
    rows = measure(model, task, SETTINGS, RunOptions(limit=3, seed=5)).set_index(["image", "site"])
    assert len(rows.groupby("image")) == 3
    for index in range(3):
        sample = task.dataset[index]
        (group,) = task.present_prompts(PromptRule(), sample).groups
        assert sample.caption is not None
        assert group.prompt.text == described_prompt(sample.caption, (), (), False, True)[0].text
        ((noised, level),) = model.noised([sample.image], SETTINGS, [image_generator(5, "pocket", sample.id)])
        for site, block in observe_modalities(model, noised, level, group.prompt, 64).items():
            for field, number in asdict(block).items():
                assert rows.loc[(sample.id, site), field] == number
    table = averages(rows.reset_index(), ["i2t"], (0, 1)).set_index("site")
    np.testing.assert_allclose(table["mean"], rows["i2t"].groupby("site").mean()[table.index])


def test_the_order_of_the_images_does_not_matter(model: Backbone, task: Task) -> None:
    fields = [*ANALYSES["modalities"].labels]
    forwards, backwards = (
        measure(model, replace(task, dataset=Reordered(task.dataset, order)), SETTINGS, RunOptions())
        for order in ([0, 1, 2], [2, 1, 0])
    )
    assert forwards["image"].unique().tolist() == backwards["image"].unique().tolist()[::-1]
    pd.testing.assert_frame_equal(
        averages(forwards, fields, (0, 1)), averages(backwards, fields, (0, 1)), check_exact=True
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_interval_lies_within_its_bounds_and_contains_the_mean(shares: list[float]) -> None:
    rows = pd.DataFrame({"image": range(len(shares)), "layer": 0, "site": "a", "i2t": shares, "t2t": 0.25})
    first, second = averages(rows, ["i2t", "t2t"], (0, 1)).to_dict("records")
    if set(shares) in ({0.0}, {1.0}):
        assert np.isnan([first["low"], first["high"]]).all()
    else:
        assert 0 <= first["low"] <= first["mean"] <= first["high"] <= 1
    assert first["mean"] == pytest.approx(np.mean(shares))
    assert (second["low"], second["mean"], second["high"]) == pytest.approx((0.25, 0.25, 0.25))


def test_images_without_a_class_are_left_out(model: Backbone, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    only, present = task.dataset.ids[1], Task.present_classes
    monkeypatch.setattr(
        Task, "present_classes", lambda self, sample: present(self, sample) if sample.id == only else ()
    )
    assert set(measure(model, task, SETTINGS, RunOptions(limit=3))["image"]) == {only}
    monkeypatch.setattr(Task, "present_classes", lambda *_: ())
    with pytest.raises(UserError, match="none of 3 images of pocket shows a class"):
        measure(model, task, SETTINGS, RunOptions(limit=3))
