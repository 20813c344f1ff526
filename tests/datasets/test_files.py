"""Unusual files: deep pictures, huge ones, pipes, names that a terminal obeys, lists that are no text."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscale.bench.data.check import check
from segscale.datasets.files import DIGEST, FileError, digest, read_image, read_label, read_list
from segscale.errors import UserError
from segscale.files import replaced
from segscale.registry import build

from ..bench.test_data_check import make_voc, mask


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled_by_its_range(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    image = read_image(tmp_path / f"deep.{ending}")
    assert np.asarray(image.convert("RGB"))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert image.info[DIGEST] == digest((tmp_path / f"deep.{ending}").read_bytes())


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bit_values_without_a_known_range_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "deep.tif")
    with pytest.raises(FileError, match=r"deep\.tif has 32-bit values, whose range is unknown; save it with 8 or 16"):
        read_image(tmp_path / "deep.tif")


def test_a_16_bit_mask_is_not_scaled_to_ids(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 257, np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(FileError, match=r"mask\.png is an I;16 image, not a map of class ids"):
        read_label(tmp_path / "mask.png", (4, 4), 3)


def huge(path: Path) -> None:
    """A valid header of more pixels than Pillow opens."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_files_that_end_or_block_a_read_are_one_line_in_the_check(tmp_path: Path) -> None:
    ids = ["folder", "huge", "pipe", "twin"]
    make_voc(tmp_path, ids)
    images, masks = (tmp_path / "VOCdevkit/VOC2012" / name for name in ("JPEGImages", "SegmentationClass"))
    for path in (images / "folder.jpg", images / "pipe.jpg", masks / "twin.png"):
        path.unlink()
    (images / "folder.jpg").mkdir()
    os.mkfifo(images / "pipe.jpg")
    os.mkfifo(masks / "twin.png")
    huge(images / "huge.jpg")
    # In a process of its own, so that a read that blocks ends.
    program = (
        "import sys; from segscale.registry import build; from segscale.bench.data.check import check;"
        "[print(f.id, f.kind, f.what) for f in check(build('dataset', 'voc', data_root=sys.argv[1]), 1).findings]"
    )
    process = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    lines = [line.replace(str(tmp_path), "") for line in process.stdout.splitlines()]
    assert [line.split(" /")[0] for line in lines] == [
        "folder not regular",
        "huge too large",
        "pipe not regular",
        "twin not regular",
    ]
    assert "huge.jpg is too large (Image size (400000000 pixels) exceeds limit" in lines[1]


def test_a_pipe_that_is_named_as_a_picture_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    # In a process of its own, so that a read that blocks ends.
    program = (
        "import sys; from pathlib import Path; from segscale.bench.pictures.inputs import PictureFile;"
        "PictureFile('pipe', Path(sys.argv[1])).check()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "pipe.png")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.stderr.endswith(
        "pipe.png is not a regular file; give a picture that Pillow can read, such as PNG or JPEG\n"
    )


def test_a_file_is_replaced_behind_its_link_and_nothing_else_is(tmp_path: Path) -> None:
    target, link, fifo = (tmp_path / name for name in ("target", "link", "fifo"))
    target.write_text("before")
    link.symlink_to(target)
    with replaced(link) as file:
        file.write("after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    os.mkfifo(fifo)
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    for path in (fifo, tmp_path, tmp_path / "one"):
        with pytest.raises(UserError, match="is no file that could be replaced; name another"), replaced(path):
            pass
    assert fifo.is_fifo()


def test_control_characters_of_an_id_are_shown_as_escapes(tmp_path: Path) -> None:
    make_voc(tmp_path, ["one"])
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    lists.write_text("one\n\x1b[2Jgone\n\x1b[31mtwice\n\x1b[31mtwice\n")
    dataset = build("dataset", "voc", data_root=str(tmp_path))
    lines = [finding.what for finding in check(dataset, 1).findings]
    assert any(r"\x1b[2Jgone.jpg" in line for line in lines)
    assert any(r"lists \x1b[31mtwice twice" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    with pytest.raises(FileError) as caught:
        dataset[1]
    assert str(caught.value).isprintable()


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    make_voc(tmp_path, ["one", "two"])
    path = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n")
    dataset = build("dataset", "voc", data_root=str(tmp_path))
    assert dataset.ids == ("one", "two")
    assert check(dataset, 1).findings == ()


@pytest.mark.parametrize("content", [mask(3), "one\n".encode("utf-16"), b"one\0two\n"])
def test_a_list_that_is_no_text_is_one_line(tmp_path: Path, content: bytes) -> None:
    make_voc(tmp_path, ["one"])
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"val\.txt is damaged") as caught:
        build("dataset", "voc", data_root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_empty_list_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"list\.txt lists no image"):
        read_list(tmp_path / "list.txt")


DEEP = {
    "voc": ("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", ["VOCdevkit", "VOCdevkit/VOC2012"]),
    "ade20k": ("ADEChallengeData2016/images/validation", ["ADEChallengeData2016", "ADEChallengeData2016/images"]),
    "context60": ("VOCdevkit/VOC2010/JPEGImages", ["VOCdevkit", "VOCdevkit/VOC2010"]),
    "cityscapes": ("leftImg8bit/val", ["leftImg8bit"]),
    "coco-object": ("images/val2017", ["images"]),
}


@pytest.mark.parametrize("name", DEEP)
def test_a_data_root_that_is_too_deep_is_told_the_right_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, roots = DEEP[name]
    (tmp_path / path).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for root in (*roots, *(str(tmp_path / root) for root in roots)):
        with pytest.raises(UserError, match=rf"lies inside the folder of the dataset; use --data-root {tmp_path}$"):
            build("dataset", name, data_root=root)
