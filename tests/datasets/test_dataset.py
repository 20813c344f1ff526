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
from segscale.datasets.files import digest, read_image
from segscale.datasets.folder import FolderDataset
from segscale.errors import UserError
from segscale.registry import build

from ..bench.test_data_check import make_voc


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
    "no image": ({"ids": ()}, "two val has no image; name the folder of its files with --data-root"),
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


def sample(**changes: Any) -> Sample:
    """One of a dataset that reads no file by itself."""
    image, label = Image.new("RGB", (3, 2), "green"), np.zeros((2, 3), np.uint8)
    return Sample(**{"id": "a", "image": image, "label": label} | changes)


LABEL = np.zeros((2, 3), np.uint8)
MADE_OF_SOMETHING_ELSE: dict[str, tuple[dict[str, Any], str]] = {
    "another pixel": ({"image": Image.new("RGB", (3, 2), "red")}, "image"),
    "another mode": ({"image": Image.new("L", (18, 1))}, "image"),
    "another class": ({"label": LABEL + np.eye(2, 3, dtype=np.uint8)}, "label"),
    "another size": ({"label": LABEL.T}, "label"),
    "another mask": ({"mask_digest": "of a file"}, "label"),
    "annotations": ({"present": (1,)}, "label"),
}


@pytest.mark.parametrize(("changes", "kind"), MADE_OF_SOMETHING_ELSE.values(), ids=MADE_OF_SOMETHING_ELSE)
def test_whatever_a_number_is_made_of_changes_a_digest(changes: dict[str, Any], kind: str) -> None:
    before, after = sample().digests, sample(**changes).digests
    assert getattr(before, kind) != getattr(after, kind)
    assert sample(id="b", caption="a star").digests == before


def test_annotations_are_told_apart() -> None:
    assert len({sample(present=present).digests.label for present in (None, (), (1,), (1, 2))}) == 4


def test_an_image_that_was_read_has_the_digest_of_its_file(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "green").save(tmp_path / "a.png")
    read = sample(image=read_image(tmp_path / "a.png"))
    assert read.digests.image == digest((tmp_path / "a.png").read_bytes())


def test_a_folder_reads_every_file_once_and_keeps_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_voc(tmp_path, ["a"])
    dataset = build("dataset", "voc", data_root=str(tmp_path))
    read: list[bytes] = []
    original = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(original(path))
        return read[-1]

    monkeypatch.setattr(Path, "read_bytes", counted)
    digests = dataset[0].digests
    assert [digests.image, digests.label] == [digest(content) for content in read]
