"""One's own pictures as a dataset."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segscale.bench.commands.main import main
from segscale.bench.data.check import check
from segscale.bench.pictures.inputs import picture_of
from segscale.datasets.class_list import read_class_list
from segscale.datasets.colours import OKABE_ITO, class_colours, lab
from segscale.datasets.dataset import Dataset
from segscale.datasets.files import FileError
from segscale.datasets.pocket import make_scene
from segscale.errors import UserError
from segscale.registry import build

IDS: NDArray[np.uint8] = np.array([[0, 1, 1, 255], [2, 2, 0, 0]], np.uint8)
ORIENTATION = 0x0112


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture with its mask, four by two pixels."""
    root = tmp_path / "holiday"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (4, 2), "red").save(root / "images/a.jpg")
    Image.fromarray(IDS).save(root / "masks/a.png")
    (root / "classes.txt").write_text("dog\ncat\n")
    return root


def own(root: Path, **choice: str) -> Dataset:
    return build("dataset", "folder", data_root=str(root), **choice)


def test_values_are_background_and_the_classes_in_their_order(folder: Path) -> None:
    dataset = own(folder)
    assert dataset.classes == ("background", "dog", "cat")
    assert dataset.ids == ("a",)
    assert np.array_equal(dataset[0].label, IDS)
    (folder / "classes.txt").write_text("background\ndog\ncat\n")
    assert own(folder).classes == dataset.classes


def test_a_set_is_called_after_its_folder_or_as_the_user_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own(folder).split == "holiday"
    assert own(folder, split="beach").split == "beach"
    monkeypatch.chdir(folder)
    assert build("dataset", "folder", data_root=".").split == "holiday"
    with pytest.raises(UserError, match="no split 'calibration'; there are: holiday"):
        own(folder, split="calibration")


@pytest.mark.parametrize("choice", [{}, {"split": "calibration"}])
def test_a_folder_called_like_a_part_of_a_split_is_one_line(choice: dict[str, str], folder: Path) -> None:
    moved = folder.rename(folder.parent / "calibration")
    with pytest.raises(
        UserError, match="a folder called calibration would be taken for images that a threshold was chosen on"
    ):
        own(moved, **choice)
    assert own(moved, split="beach").ids == ("a",)


def test_linked_folders_are_read_once_and_not_for_ever(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (4, 2), "blue").save(elsewhere / "b.jpg")
    images = folder / "images"
    (images / "day1").symlink_to(elsewhere)
    (images / "day2").symlink_to(elsewhere)
    (images / "above").symlink_to(images)
    (images / "gone").symlink_to(folder.parent / "nothing")
    for real in (images / "zoo", images / "zoo/inner"):
        real.mkdir()
        Image.new("RGB", (4, 2), "green").save(real / "c.jpg")
    (images / "alias").symlink_to(images / "zoo/inner")
    assert own(folder).ids == ("a", "day1/b", "zoo/c", "zoo/inner/c")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_coloured_masks_are_read_by_their_colours(mode: str, folder: Path) -> None:
    (folder / "classes.txt").unlink()
    (folder / "classes.csv").write_text("name,colour\ndog,#ff0000\ncat,#00ff00\nignored,#ffffff\n")
    colours = {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 255, 0), 255: (255, 255, 255)}
    painted = np.array([[colours[id] for id in row] for row in IDS.tolist()], np.uint8)
    Image.fromarray(painted).convert(mode).save(folder / "masks/a.png")
    assert np.array_equal(own(folder)[0].label, IDS)
    # Grey masks hold ids, whatever the colours.
    Image.fromarray(IDS).save(folder / "masks/a.png")
    assert np.array_equal(own(folder)[0].label, IDS)
    painted[0, 0] = (1, 2, 3)
    Image.fromarray(painted).save(folder / "masks/a.png")
    with pytest.raises(FileError, match="the colour #010203, which is that of no class; correct it"):
        own(folder)[0]


def test_colours_may_be_three_numbers(folder: Path) -> None:
    (folder / "classes.txt").unlink()
    (folder / "classes.csv").write_text("name,red,green,blue\nbackground,9,9,9\ndog,255,0,0\n")
    assert read_class_list(folder).palette == ((9, 9, 9), (255, 0, 0))


def test_other_colours_or_names_are_another_run(folder: Path) -> None:
    before = own(folder).identity_options
    (folder / "classes.txt").write_text("dog\ncow\n")
    named = own(folder).identity_options
    (folder / "classes.txt").unlink()
    (folder / "classes.csv").write_text("name,colour\ndog,#ff0000\ncow,#00ff00\n")
    assert before != named != own(folder).identity_options != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,colour\ndog\n", "no name and colour in line 2"),
        ("name,colour\ndog,reddish\n", "no name and colour in line 2"),
        ("name,red,green,blue\ndog,1,2,300\n", "no name and colour in line 2"),
        ("dog,#ff0000\ncat,#00ff00\n", "no name and colour in line 2"),
        ("name,colour\ndog,red\ncat,#ff0000\n", "'cat' or its colour twice, again in line 3"),
        ("", "names no class; its first line is"),
        ("name,colour\nignored,red\n", "names no class"),
        ("name,colour\ndog,black\n", "gives black away"),
        ("name,colour\ndog,red\nbackground,white\n", "does not begin with background"),
    ],
)
def test_a_list_of_colours_that_makes_no_sense_is_one_line(content: str, message: str, folder: Path) -> None:
    (folder / "classes.txt").unlink()
    (folder / "classes.csv").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        own(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "but"), [("", ""), ("\n \n", ""), ("background\n", " but background")])
def test_a_list_of_names_that_is_empty_is_one_line(content: str, but: str, folder: Path) -> None:
    (folder / "classes.txt").write_text(content)
    with pytest.raises(UserError) as caught:
        own(folder)
    hint = "write the names of the classes into it, one a line"
    assert str(caught.value) == f"{folder}/classes.txt names no class{but}; {hint}"


@pytest.mark.parametrize(
    ("file_name", "content", "name", "known"),
    [
        ("classes.txt", "Background\ndog\n", "Background", "background"),
        ("classes.txt", "dog\ncat\ndog\n", "dog", "dog"),
        ("classes.csv", "name,colour\ncat,red\nCat,blue\n", "Cat", "cat"),
    ],
)
def test_a_name_that_stands_twice_is_one_line(
    file_name: str, content: str, name: str, known: str, folder: Path
) -> None:
    (folder / "classes.txt").unlink()
    (folder / file_name).write_text(content)
    with pytest.raises(UserError) as caught:
        own(folder)
    problem = f"{folder}/{file_name} names {name!r}, and {known!r} is a class already"
    assert str(caught.value) == f"{problem}; leave it out, or call it otherwise"


def test_a_list_of_another_encoding_is_one_line(folder: Path) -> None:
    (folder / "classes.txt").write_bytes("Bär\n".encode("latin-1"))
    with pytest.raises(FileError, match=r"classes\.txt is damaged .*; save it as UTF-8 text"):
        own(folder)


def test_one_list_of_classes_is_needed(folder: Path) -> None:
    (folder / "classes.csv").write_text("name,colour\ndog,red\n")
    with pytest.raises(UserError, match=r"has classes\.txt and classes\.csv; remove one"):
        own(folder)
    for name in ("classes.txt", "classes.csv"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"there is no .*classes\.txt; write the names"):
        own(folder)


def test_a_picture_is_upright_and_so_is_its_mask(folder: Path) -> None:
    turned = Image.new("RGB", (2, 4), "red")
    exif = turned.getexif()
    exif[ORIENTATION] = 6
    turned.save(folder / "images/a.jpg", exif=exif)
    sample = own(folder)[0]
    assert sample.image.size == (4, 2)
    assert check(own(folder), workers=1).good
    assert sample.digests.image == own(folder)[0].digests.image


@pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF file", b"Exif\0\0II*\0\x08"])
def test_damaged_exif_data_are_a_damaged_picture(exif: bytes, folder: Path) -> None:
    (folder / "images/a.jpg").unlink()
    Image.new("RGB", (4, 2)).save(folder / "images/a.png", exif=exif)
    with pytest.raises(FileError, match=r"a\.png is damaged"):
        own(folder)[0]
    (finding,) = check(own(folder), workers=1).findings
    assert (finding.id, finding.kind) == ("a", "damaged")


def test_a_picture_with_a_palette_is_the_same_in_true_colour_and_white_where_clear(folder: Path) -> None:
    (folder / "images/a.jpg").unlink()
    few = Image.fromarray(IDS % 3)
    few.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    few.info["transparency"] = 0
    colours = {0: [255, 255, 255], 1: [0, 255, 0], 2: [0, 0, 255]}
    expected = [[colours[index] for index in row] for row in (IDS % 3).tolist()]
    for picture in (few, few.convert("RGBA")):
        picture.save(folder / "images/a.png")
        for read in (own(folder)[0].image, picture_of(folder / "images/a.png"), picture_of(picture)):
            assert np.asarray(read).tolist() == expected
    assert np.asarray(picture_of(np.asarray(few.convert("RGBA")))).tolist() == expected


def test_pictures_in_folders_and_masks_of_predict_are_found(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / name / "sub").mkdir()
    Image.new("RGB", (4, 2)).save(folder / "images/sub/b.PNG")
    Image.fromarray(IDS).save(folder / "masks/sub/b_labels.png")
    for hidden in ("images/.hidden.png", "images/.thumbs/a.png", "masks/.old/c.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"")
    dataset = own(folder)
    assert dataset.ids == ("a", "sub/b")
    assert np.array_equal(dataset[1].label, IDS)
    assert check(dataset, workers=1).good


def test_masks_of_predict_are_read_in_the_colours_of_the_list(folder: Path) -> None:
    (folder / "images/a.jpg").unlink()
    (folder / "masks/a.png").unlink()
    (folder / "classes.txt").unlink()
    Image.fromarray(make_scene(0, "val", 12).image).save(folder / "images/a.png")
    # The colours that nobody chose, in another order.
    first, second = (f"#{bytes(colour).hex()}" for colour in OKABE_ITO[:2])
    lines = ["name,colour", "background,#ffffff", f"star,{second}", f"ring,{first}", "ignored,#123456"]
    (folder / "classes.csv").write_text("\n".join(lines))
    main(["predict", str(folder), "-o", str(folder / "masks"), "--write", "labels"])
    mask = folder / "masks/a_labels.png"
    written = Image.open(mask)
    ids = np.array(written)
    assert np.array_equal(own(folder)[0].label, ids)
    assert {1, 2} <= {*ids.ravel().tolist()}
    ids[0, 0] = 255
    corrected = Image.fromarray(ids)
    corrected.putpalette(written.getpalette() or [])
    corrected.save(mask)
    assert np.array_equal(own(folder)[0].label, ids)


def test_the_check_names_what_is_missing_or_left_over(folder: Path) -> None:
    Image.new("RGB", (4, 2)).save(folder / "images/b.png")
    Image.new("RGB", (4, 2)).save(folder / "images/a.png")
    Image.fromarray(IDS[:1]).save(folder / "masks/c.png")
    findings = check(own(folder), workers=1).findings
    kinds = {(finding.id, finding.kind): finding.what for finding in findings}
    assert kinds.keys() == {("b", "missing mask"), ("c", "missing image"), ("a", "duplicate id")}
    images = folder / "images"
    assert kinds["a", "duplicate id"] == f"{images / 'a.jpg'} and {images / 'a.png'} have one name"
    with pytest.raises(FileError, match="have one name; rename one"):
        own(folder)[1]


def test_a_mask_beside_the_predicted_one_and_cutouts_lack_no_picture(folder: Path) -> None:
    Image.fromarray(np.zeros_like(IDS)).save(folder / "masks/a_labels.png")
    Image.new("RGBA", (4, 2)).save(folder / "masks/a_cutout1_hot_dog.png")
    assert np.array_equal(own(folder)[0].label, IDS)
    assert check(own(folder), workers=1).good


def test_the_check_names_masks_that_show_no_class(folder: Path) -> None:
    """White on black, as editors export: 255 is ignored."""
    assert check(own(folder), workers=1).good
    Image.fromarray(np.where(IDS == 0, 0, 255).astype(np.uint8)).save(folder / "masks/a.png")
    (finding,) = check(own(folder), workers=1).findings
    assert (finding.id, finding.kind) == ("all masks", "no class")
    assert finding.what == "no mask shows a class; 255 is ignored, and the first class is 1"
    Image.fromarray(np.zeros_like(IDS)).save(folder / "masks/a.png")
    (finding,) = check(own(folder), workers=1).findings
    assert finding.what == "no mask shows a class"


def test_own_pictures_are_run_and_a_missing_mask_is_left_out_when_asked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 2)).save(folder / "images/b.png")
    command = ["run", "--dataset", "folder", "--data-root", str(folder), "--results", str(tmp_path / "results")]
    with pytest.raises(SystemExit):
        main(command)
    assert "masks/b.png; draw it, or leave its image out: --skip-bad" in capsys.readouterr().err
    main([*command, "--skip-bad"])
    printed = capsys.readouterr().out
    assert "on folder (standard)" in printed
    assert "left out 1 bad images" in printed


def test_classes_have_colours_that_are_told_apart() -> None:
    colours = class_colours(60)
    assert colours[1:8] == OKABE_ITO
    assert class_colours(20) == colours[:20]
    places = lab(np.array(colours[:21], np.float64))
    # Twenty is what two patches beside each other need; the difference that is just seen is 2.3.
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(places, 2)) > 20
    assert len(set(class_colours(255))) == 255


def test_lab_of_known_colours() -> None:
    # White, and sRGB red as colour calculators give it (D65).
    white, red = lab(np.array([[255, 255, 255], [255, 0, 0]], np.float64))
    assert white == pytest.approx([100, 0, 0], abs=0.05)
    assert red == pytest.approx([53.24, 80.09, 67.20], abs=0.15)
