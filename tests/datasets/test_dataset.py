"""What every dataset must state, and which contradictions are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segscale.bench.data.check import check
from segscale.datasets.dataset import Dataset, Sample, check_dataset
from segscale.datasets.folder import FolderDataset
from segscale.errors import UserError
from segscale.registry import build


class Two(Dataset):
    """A newcomer that states everything."""

    splits = ("val", "calibration")
    classes = ("background", "star", "ring")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    background: int | None = 0
    ids: tuple[str, ...] = ("a", "b")

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], Image.new("RGB", (4, 4)), np.zeros((4, 4), np.uint8))


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a class twice": ({"classes": ("background", "star", "star")}, "two classes are called 'star'"),
    "equal but for case": ({"classes": ("background", "star", "Star ")}, "two classes are called 'star' but for case"),
    "no class": ({"classes": (), "palette": ()}, "0 classes"),
    "too many classes": ({"classes": tuple(map(str, range(256)))}, "256 classes, not 1 to 255"),
    "short palette": ({"palette": ((0, 0, 0),)}, "its palette has 1 colours for 3 classes"),
    "long palette": ({"palette": ((0, 0, 0),) * 4}, "its palette has 4 colours for 3 classes"),
    "no such background": ({"background": 3}, "its background 3 is none of 3 classes"),
    "an id twice": ({"ids": ("a", "b", "a")}, "'a' is twice in the split val"),
    "another split": ({"split": "test"}, "two has no split 'test'; there are: val, calibration"),
    "no splits": ({"splits": ()}, "dataset class Two names no splits; set them in the class: splits = "),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_dataset_that_contradicts_itself_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Two(name="two", split="val")
    check_dataset(dataset)
    attributes, message = CONTRADICTIONS[name]
    for attribute, value in attributes.items():
        monkeypatch.setattr(dataset, attribute, value)
    for use in (check_dataset, lambda dataset: check(dataset, 1)):
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            use(dataset)
        assert "\n" not in str(caught.value)


def test_a_split_that_a_dataset_does_not_name_is_refused_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="two has no split 'train'; there are: val, calibration"):
        Two(name="two", split="train")
    monkeypatch.setattr(Two, "splits", ())
    with pytest.raises(UserError, match="dataset class Two names no splits"):
        Two(name="two", split="val")


def test_a_folder_without_a_train_list_has_no_calibration_split() -> None:
    class OnlyVal(FolderDataset):
        official_counts = {"val": ()}  # noqa: RUF012
        layout: Callable[..., Any]

    assert OnlyVal.splits == ("val",)


def template() -> type[Dataset]:
    """The dataset of docs/extending.md, without its registration."""
    text = (Path(__file__).parents[2] / "docs/extending.md").read_text()
    (module,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "(Dataset)" in block)
    names: dict[str, Any] = {}
    exec(module.replace("@DATASETS.register_module()\n", ""), names)
    return names["Ten"]


def test_the_documented_dataset_calibrates_on_other_images_than_it_evaluates(tmp_path: Path) -> None:
    for split, id in (("val", "one"), ("calibration", "two")):
        for folder in ("images", "masks"):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new("RGB", (40, 30), "green").save(tmp_path / f"images/{split}/{id}.jpg")
        Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(tmp_path / f"masks/{split}/{id}.png")
    make: Any = template()
    datasets = {split: make(name="ten", split=split, data_root=str(tmp_path)) for split in ("val", "calibration")}
    assert (datasets["val"].ids, datasets["calibration"].ids) == (("one",), ("two",))
    for dataset in datasets.values():
        assert check(dataset, 1).good
        assert dataset[0].label.max() == 1
    with pytest.raises(UserError, match="ten has no split 'train'; there are: val, calibration"):
        make(name="ten", split="train", data_root=str(tmp_path))


@pytest.mark.parametrize("name", ["pocket"])
def test_shipped_datasets_pass_the_check(name: str) -> None:
    check_dataset(build("dataset", name))
