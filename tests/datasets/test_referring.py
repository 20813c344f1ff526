"""Readers of referring segmentation: what is converted, what is read, what is refused."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from segscale.bench.data.check import check
from segscale.bench.data.prepare import prepare
from segscale.datasets.files import FileError
from segscale.datasets.plain_pickle import read_plain_pickle
from segscale.errors import UserError
from segscale.registry import build

from .referring_files import SIZE, reasonseg, refcoco

REFCOCO = {
    "refcoco": ("refcoco", "refs(unc).p", ("train", "val", "testA", "testB")),
    "refcoco-plus": ("refcoco+", "refs(unc).p", ("train", "val", "testA", "testB")),
    "refcocog": ("refcocog", "refs(umd).p", ("train", "val", "test")),
}


@pytest.mark.parametrize("name", REFCOCO)
def test_refcoco_is_converted_once_and_every_expression_is_a_sample(name: str, tmp_path: Path) -> None:
    folder, refs, splits = REFCOCO[name]
    root = str(refcoco(tmp_path, folder, refs))
    assert (first := prepare(name, root, workers=1)).made == 6
    assert not first.faults
    assert (prepare(name, root, workers=1).made, prepare(name, root, workers=1).kept) == (0, 6)
    for place, split in enumerate(splits):
        dataset = build("dataset", name, split=split, data_root=root)
        number = place if split != "test" else 4
        assert dataset.ids == (f"{number}-0", f"{number}-1")
        samples = [dataset[index] for index in range(2)]
        assert [sample.caption for sample in samples] == ["the left thing", f"square {number}"]
        assert all(sample.present == (1,) for sample in samples)
        expected = np.zeros(SIZE, np.uint8)
        if number == 4:
            # Run lengths go down the columns.
            expected[:5, 0] = 1
        else:
            expected[4:14, 5 * number : 5 * number + 10] = 1
        assert np.array_equal(samples[0].label, expected)
        assert check(dataset, 1, subset=True).good
        assert not check(dataset, 1).complete


def test_reasonseg_takes_the_first_question_and_ignores_what_it_says(tmp_path: Path) -> None:
    root = str(reasonseg(tmp_path))
    assert prepare("reasonseg", root, workers=1).made == 3
    for split in ("train", "val", "test"):
        dataset = build("dataset", "reasonseg", split=split, data_root=root)
        (sample,) = (dataset[index] for index in range(len(dataset)))
        assert sample.caption == "the caf\u00e9's sign, that shows where to go"
        # The small square stays in the large one, and what is flagged is not drawn.
        assert sorted(np.unique(sample.label)) == [0, 1, 255]
        assert (sample.label == 1).sum() == 11 * 11
        assert (sample.label[4:15, 4:15] == 1).all()
        assert (sample.label == 255).sum() == 31 * 31 - 11 * 11
        assert check(dataset, 1, subset=True).good


def test_a_missing_mask_and_image_are_named(tmp_path: Path) -> None:
    root = refcoco(tmp_path)
    prepare("refcoco", str(root), workers=1)
    (root / "refcoco/masks/101.png").unlink()
    (root / "images/train2014/COCO_train2014_000000000007.jpg").write_bytes(b"no image")
    dataset = build("dataset", "refcoco", data_root=str(root))
    kinds = sorted(finding.kind for finding in check(dataset, 1, subset=True).findings)
    assert kinds == ["damaged", "damaged", "missing mask", "missing mask"]


def test_before_the_conversion_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="segscale data prepare refcoco"):
        build("dataset", "refcoco", data_root=str(refcoco(tmp_path)))


def test_references_to_an_unknown_annotation_are_refused(tmp_path: Path) -> None:
    root = refcoco(tmp_path)
    path = root / "refcoco/instances.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"does not match instances\.json"):
        prepare("refcoco", str(root), workers=1)


def test_an_annotation_without_expression_is_refused(tmp_path: Path) -> None:
    root = reasonseg(tmp_path)
    (root / "val/1.json").write_text(json.dumps({"text": [], "shapes": []}))
    with pytest.raises(FileError, match="holds no expression"):
        build("dataset", "reasonseg", data_root=str(root))
    (root / "val/1.json").write_text("{")
    with pytest.raises(FileError, match="is damaged"):
        build("dataset", "reasonseg", data_root=str(root))


class Harmful:
    """Its pickle would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_runs_no_code(protocol: int, tmp_path: Path) -> None:
    path, folder = tmp_path / "refs.p", tmp_path / "made"
    path.write_bytes(pickle.dumps([{"a": 1}, Harmful(folder)], protocol))
    with pytest.raises(FileError, match=r"no pickle of plain values \(it names (posix|nt|os).mkdir\)"):
        read_plain_pickle(path)
    assert not folder.exists()
    # The same file does harm where it is read without care.
    pickle.loads(path.read_bytes())
    assert folder.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol: int, tmp_path: Path) -> None:
    values = [{"ref_id": 1, "sent_ids": (1, 2), "tokens": ["caf\u00e9", "x"], "score": 0.5, "none": None}, True, 2**70]
    (tmp_path / "refs.p").write_bytes(pickle.dumps(values, protocol))
    assert read_plain_pickle(tmp_path / "refs.p") == values


def test_texts_of_python_2_are_read(tmp_path: Path) -> None:
    # A str and a unicode of Python 2, as its protocol 0 writes them.
    (tmp_path / "refs.p").write_bytes(b"(lp0\nS'left'\np1\naVm\\u00fcde\np2\na.")
    assert read_plain_pickle(tmp_path / "refs.p") == ["left", "m\u00fcde"]


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80\x04\x95", b"c__builtin__\neval\n(S'1'\ntR.", b"P1\n."])
def test_what_is_no_pickle_of_plain_values_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(FileError, match="is damaged, or no pickle of plain values"):
        read_plain_pickle(tmp_path / "refs.p")
