from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click import Context
from click.shell_completion import ShellComplete
from PIL import Image

from segscale.bench import segmenter
from segscale.bench.commands.command import Command, Group
from segscale.bench.commands.main import COMPLETION, main, program
from segscale.bench.commands.reference import reference
from segscale.catalogue import KINDS, config_files
from segscale.datasets.pocket import make_scene


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that must end with status 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("segscale: error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(make_scene(0, "val", 12).image).resize((200, 160)).save(path)
    return path


EMPTY = "_"
"""Stands for an empty word below."""
BAD_INPUT = {
    "run --backbone pocket-sd51": "unknown backbone 'pocket-sd51'; did you mean pocket-sd15? there are: ",
    "run --method vanila": "unknown method 'vanila'; did you mean vanilla?",
    "run --dataset pokcet": "unknown dataset 'pokcet'; did you mean pocket?",
    "run --protocol standrad": "unknown protocol 'standrad'; did you mean standard?",
    "run --weights ./nowhere": "nowhere is not a diffusers folder",
    "run --dataset voc --data-root nowhere": "there is no nowhere/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt",
    "run --split test": "pocket has no split 'test'; there are: train, calibration, val",
    "run --seed -1": "'-1' is not a number from 0",
    "run --device-map auto": "cannot be loaded",
    "calibrate --protocol goca": "protocol goca chooses its threshold on the images evaluated; calibrate standard",
    "calibrate --method seg4diff-masks": "seg4diff-masks gives nameless masks, which protocol standard does not",
    "calibrate --backbone pocket-sd51": "unknown backbone 'pocket-sd51'; did you mean pocket-sd15?",
    "perf pocket-sd3 --size 128": "pocket-sd3 takes no images of 128 px; use a multiple of 4 up to 64",
    "perf pocket-flux --size 100": "pocket-flux takes no images of 100 px; use a multiple of 8",
    "modalities pocket-sd15": "pocket-sd15 has no joint attention over image and text; use a backbone",
    "values sdxl": "sdxl has no joint attention over image and text; use a backbone that has one, such as pocket-sd3",
    "values pocket-sd3 --timestep 0": "'0' is not a timestep in 1..1000",
    "modalities pocket-sd3 --dataset vco": "unknown dataset 'vco'; did you mean voc?",
    "layers pocket-sd3 --sites vit-block6": "pocket-sd3 has no site 'vit-block6' that reads text; see: segscale sites",
    "layers pocket-sd3 --with vanila": "unknown method 'vanila'; did you mean vanilla?",
    "layers pocket-sd3 --protocol seg4diff-unsupervised": "does not evaluate; see: segscale list",
    "predict {photo} --classes star,background": "'background' is what is left over",
    "run --limit 0": "'0' is not a positive number; see: segscale run --help",
    "run --device quantum": "there is no device 'quantum' here; there are: cpu",
    "table --results {tmp}": "there are no runs in {tmp}/runs; make some with: segscale bench",
    "predict {photo} --classes ,": "the class list is empty",
    "predict {photo} --classes star,star": "'star' is in the class list twice",
    "predict nowhere.jpg --classes star": "there is no nowhere.jpg; check its name",
    "predict {photo} --classes gem,ball,leaf,cone,ring,cross,heart,flower,star": "cut before class 'flower'",
    "predict {photo} --classes star --revision main": "pocket:pocket-sd15 is no hub repository, so it has no revision",
    "run --revision main": "pocket:pocket-sd15 is no hub repository, so it has no revision main; leave it out",
    "run --backbone ,": "the backbone list is empty; see: segscale run --help",
    "layers pocket-sd3 --sites ,": "the site list is empty; see: segscale layers --help",
    "run --dtype float64": "'float64' is not one of 'float32', 'float16', 'bfloat16'; see: segscale run --help",
    "quirks --limit": "option '--limit' requires an argument; see: segscale quirks --help",
    "run --limt 4": "there is no option '--limt'; did you mean --limit? see: segscale run --help",
    "data check pocket --worker 2": "did you mean --workers? see: segscale data check --help",
    "data chek pocket": "there is no command 'chek'; did you mean check? see: segscale data --help",
    "data": "missing command; see: segscale data --help",
    "caption --temperature 3": "'3' is neither none nor a number from 0 to 2; see: segscale caption --help",
    "perf": "missing argument 'BACKBONE'; see: segscale perf --help",
    "perf pocket-sd15 --pipeline": "BACKBONE is for a model, of which --pipeline runs a stand-in; leave it out",
    "perf --pipeline --size 64": "--size is for a model, of which --pipeline runs a stand-in; leave it out",
    "perf pocket-sd15 --images 3": "--images is for --pipeline; add --pipeline, or leave it out",
    "predict {photo} --classes star --caption _": "the caption is empty; leave it out, or write one",
    "predict {photo} --classes star --output _": "the path is empty; see: segscale predict --help",
    "run --results _": "the folder is empty; see: segscale run --help",
    "status --results {tmp}/nowhere": "there is no folder {tmp}/nowhere; name another --results",
    "align pocket-sd3 {tmp} --quantize quanto-int8": "a LoRA cannot be trained with --quantize; leave one of them out",
    "leaderbord": "there is no command 'leaderbord'; did you mean leaderboard? see: segscale --help",
    "fly": "there is no command 'fly'; see: segscale --help",
}


@pytest.mark.parametrize("command", BAD_INPUT)
def test_bad_input_is_one_line(command: str, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"tmp": str(photo.parent), "photo": str(photo)}
    arguments = [word.format(**names) for word in command.split()]
    if arguments[0] == "run":
        arguments[1:1] = ["--results", str(photo.parent)]
    if arguments[0] == "predict":
        arguments[1:1] = ["--output", str(photo.parent / "out")]
    arguments = ["" if word == EMPTY else word for word in arguments]
    assert BAD_INPUT[command].format(**names) in failing(arguments, capsys)


def test_a_damaged_picture_is_one_line(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo.write_bytes(photo.read_bytes()[:300])
    line = failing(["predict", str(photo), "--classes", "star"], capsys)
    assert "photo.jpg is damaged" in line
    assert line.endswith("give a picture that Pillow can read, such as PNG or JPEG")


def test_pictures_that_cannot_be_read_stop_no_other(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut, floats = (photo.with_name(name) for name in ("whole.png", "cut.png", "floats.tif"))
    Image.open(photo).save(whole)
    cut.write_bytes(whole.read_bytes()[:600])
    folder = ["--output", str(photo.parent / "out"), "--classes", "star", "--write", "labels,coco"]
    line = failing(["predict", str(cut), str(whole), *folder], capsys)
    assert line.startswith("segscale: error: 1 of 2 pictures cannot be read: cut.png; give a picture")
    assert json.loads((photo.parent / "out/coco.json").read_text())["images"][0]["file_name"] == "whole.png"
    Image.new("F", (8, 8)).save(floats)
    assert "floats.tif has 32-bit values" in failing(["predict", str(whole), str(floats), *folder], capsys)


def test_a_device_without_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("segscale.bench.costs.forward.compare", measure)
    line = failing(["perf", "pocket-sd15"], capsys)
    assert line.startswith("segscale: error: the device has too little memory; halve memory with --dtype float16")


def test_a_full_disk_under_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "segscale", "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 2
    assert ended.stderr == "segscale: error: no space is left on a disk; free some, then: segscale list\n"


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    line = failing(["table", "--results", "no\x1b[31mwhere\r\n\x07"], capsys)
    assert line.isprintable()
    assert "no[31mwhere /runs" in line


def test_the_first_bad_image_stops_a_run_and_keeps_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("one\ntwo\n")
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 12
    for name in ("one", "two"):
        Image.new("RGB", (40, 30), "green").save(root / f"JPEGImages/{name}.jpg")
        Image.fromarray(label).save(root / f"SegmentationClass/{name}.png")
    (root / "JPEGImages/two.jpg").write_bytes(b"")
    arguments = ["run", "--dataset", "voc", "--data-root", str(tmp_path), "--results", str(tmp_path)]
    assert "two.jpg is damaged" in failing(arguments, capsys)
    main(["table", "--results", str(tmp_path)])
    assert "(1 images)" in capsys.readouterr().out


def test_bench_writes_the_tables_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--backbone", "pocket-sd15", "--method", "vanilla"]
    main(["bench", *names, "--limit", "4", "--with-untrained", "--results", str(tmp_path)])
    printed = capsys.readouterr().out
    header, _, line = (line for line in printed.splitlines() if line.startswith("|"))
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "method",
        "pocket-sd15, 1.1 M",
        "pocket-sd15 (untrained), 1.1 M",
    ]
    assert line.startswith("| vanilla ")
    assert "| vanilla  | pocket-sd15 (untrained) | 1.1 M" in (tmp_path / "scaling.md").read_text()
    for name in ("leaderboard.md", "scaling.md", "scaling.csv", "classes.csv", "figures/scaling.png"):
        assert (tmp_path / name).stat().st_size
        assert f"wrote {tmp_path / name}" in printed
    board = (tmp_path / "leaderboard.md").read_text()
    assert "## pocket val, protocol standard" in board
    assert "4 of 200" in board
    assert "say nothing about the real backbones" in board


def test_predict_writes_what_it_names(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photo.parent / "out"
    main(
        [
            "predict",
            str(photo),
            "--classes",
            "star, ring",
            "--caption",
            "water, block, star, ring",
            "-o",
            str(out),
        ]
    )
    named = [Path(line.removeprefix("wrote ")) for line in capsys.readouterr().out.splitlines() if "wrote" in line]
    assert {path.name for path in named} == {path.name for path in out.iterdir()}
    assert {"photo_overlay.jpg", "photo_labels.png", "photo_heat1_star.jpg", "photo.json"} <= {p.name for p in named}
    labels = Image.open(out / "photo_labels.png")
    assert labels.mode == "P"
    counts = np.bincount(np.asarray(labels).ravel(), minlength=3)
    summary = json.loads((out / "photo.json").read_text())
    assert [(c["name"], c["pixels"]) for c in summary["classes"]] == list(
        zip(["background", "star", "ring"], counts.tolist(), strict=True)
    )
    assert labels.size == (200, 160)
    assert (counts > 0).all()


def test_predict_replaces_no_other_pictures_masks(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = photo.with_suffix(".png")
    Image.fromarray(make_scene(1, "val", 12).image).save(other)
    out = photo.parent / "out"
    arguments = ["--classes", "star", "--output", str(out)]
    for _ in range(2):
        main(["predict", str(photo), *arguments])
    masks = (out / "photo_labels.png").read_bytes()
    line = failing(["predict", str(other), *arguments], capsys)
    assert line.endswith(f"{out / 'photo.json'} is not of this picture; choose another --output, or give --overwrite")
    assert (out / "photo_labels.png").read_bytes() == masks
    main(["predict", str(other), *arguments, "--overwrite"])
    assert json.loads((out / "photo.json").read_text())["image"] == str(other)
    assert (out / "photo_labels.png").read_bytes() != masks


def test_predict_replaces_no_mask_that_a_user_made(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photo.parent / "out"
    command = ["predict", str(photo), "--classes", "star", "--output", str(out), "--write"]
    # What nobody touched is replaced.
    for kind in ("labels", "overlay", "labels"):
        main([*command, kind])
    mask = out / "photo_labels.png"
    Image.new("P", Image.open(mask).size).save(mask)
    corrected = mask.read_bytes()
    for _ in range(2):
        line = failing([*command, "labels"], capsys)
        assert line.endswith(
            "_labels.png is not as segscale predict wrote it; choose another --output, or give --overwrite"
        )
        assert mask.read_bytes() == corrected
        (out / "photo.json").unlink(missing_ok=True)
    main([*command, "labels", "--overwrite"])
    assert mask.read_bytes() != corrected


@pytest.mark.parametrize("content", ["[]", "no JSON", '{"image": null}'])
def test_predict_keeps_a_file_that_it_did_not_write(
    content: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = photo.with_suffix(".json")
    summary.write_text(content)
    failing(["predict", str(photo), "--classes", "star", "--output", str(photo.parent)], capsys)
    assert summary.read_text() == content


def test_predict_into_a_file_is_one_line_before_anything_is_loaded(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter, "load", lambda *arguments, **choices: pytest.fail("loaded"))
    line = failing(["predict", str(photo), "--classes", "star", "-o", str(photo)], capsys)
    assert "cannot be written" in line
    assert "choose another --output" in line


def test_runs_that_would_share_a_cell_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for choice in (["--seed", "0"], ["--seed", "3"], ["--split", "calibration"]):
        main(["run", "--limit", "2", "--results", str(tmp_path), *choice])
    capsys.readouterr()
    main(["table", "--results", str(tmp_path)])
    table = [line for line in (tmp_path / "scaling.md").read_text().splitlines() if line.startswith("|")]
    assert "pocket-sd15, seed 3, 1.1 M" in capsys.readouterr().out
    assert "pocket calibration (standard)" in table[0]
    assert "pocket val (standard)" in table[0]
    assert ["seed 0" in table[3], "seed 3" in table[4]] == [True, True]
    assert not any(";" in line for line in table)


def test_only_the_first_process_of_a_launcher_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    main(["bench", "--backbone", "pocket-sd15", "--limit", "1", "--results", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_list_names_every_config_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    starts = [lines.index(f"{kind}s") for kind in KINDS]
    for kind, start, end in zip(KINDS, starts, [*starts[1:], len(lines)], strict=True):
        for name in config_files(kind):
            (line,) = (line for line in lines[start + 1 : end] if line.split()[:1] == [name])
            assert len(line.split()) > 3


def test_doctor_says_how_to_get_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    lines = {tuple(line.split()[:2]): line for line in capsys.readouterr().out.splitlines()}
    assert "here" in lines["weights", "pocket-sd15"]
    assert "200 images" in lines["dataset", "pocket"]
    assert lines["dataset", "voc"].endswith("images in split val") or "--data-root" in lines["dataset", "voc"]
    assert "GiB" in lines["device", "cpu"]
    assert lines["weights", "pixart-sigma-512"].split("  ")[-1].strip().startswith("its denoiser: ")


LISTING_AND_EVERY_HELP = """
import sys
from segscale.bench.commands.main import main
from segscale.bench.commands.reference import reference
main(["list"])
reference()
for command in (["--help"], ["run", "--help"], ["data", "check", "--help"], ["predict", "--help"]):
    try:
        main(command)
    except SystemExit as end:
        assert end.code == 0
heavy = {"torch", "diffusers", "transformers", "mmseg", "mmcv", "mmengine", "numpy", "pandas", "matplotlib"}
sys.exit(f"imported {heavy & sys.modules.keys()}" if heavy & sys.modules.keys() else 0)
"""


def test_listing_and_help_import_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LISTING_AND_EVERY_HELP], check=True, stdout=subprocess.DEVNULL)


def test_the_reference_is_what_the_commands_say() -> None:
    written = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert written == reference(), "refresh it with: make docs-cli"


def leaf_commands(group: Group) -> Iterator[Command]:
    for command in group.commands.values():
        if isinstance(command, Group):
            yield from leaf_commands(command)
        else:
            assert isinstance(command, Command)
            yield command


EXAMPLES = [example for command in leaf_commands(program) for example in command.examples]
# Downloads, an endpoint, the official files; minutes; more than one picture or backbone.
NOT_RUN = (
    "caption",
    "voc",
    "cityscapes",
    "bench",
    "quirks",
    "perf",
    "--heads",
    "power",
    "scaling",
    "papers",
    "lora",
    "--width",
    "latents",
    "genmask",
    "guidance",
    "export",  # needs --save-masks
    "boundary",  # as well
)


def test_every_command_has_one_or_two_examples() -> None:
    for command in leaf_commands(program):
        assert len(command.examples) in (1, 2)
        assert all(f" {command.name} " in f"{example} " for example in command.examples)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str) -> None:
    words = shlex.split(example)[1:]
    command, context = program, Context(program, info_name="segscale")
    while isinstance(command, Group):
        command = command.get_command(context, words.pop(0))
    command.make_context(command.name, words)


def test_examples_work_in_the_order_of_the_commands(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    shutil.copytree(Path(__file__).parents[2] / "results", "results", ignore=shutil.ignore_patterns("runs"))
    for example in EXAMPLES:
        if not any(word in example for word in NOT_RUN):
            short = [] if "--limit" not in example else ["--limit", "1"]
            main([*shlex.split(example)[1:], *short])
            assert capsys.readouterr().out


def completions(words: list[str], incomplete: str) -> list[str]:
    shell = ShellComplete(program, {}, "segscale", COMPLETION)
    return [item.value for item in shell.get_completions(words, incomplete)]


def test_names_are_completed() -> None:
    assert completions([], "lea") == ["leaderboard"]
    assert completions(["run", "--backbone"], "pocket-sd1") == ["pocket-sd15"]
    assert completions(["run", "--backbone"], "sdxl,pocket-sd1") == ["sdxl,pocket-sd15"]
    assert completions(["predict", "--method"], "") == list(config_files("method"))
    assert completions(["calibrate", "--protocol"], "seg4diff-") == ["seg4diff-unsupervised"]
    assert completions(["data", "check"], "coco-o") == ["coco-object"]


def test_a_shell_gets_its_completions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"_SEGSCALE_COMPLETE": "bash_complete", "COMP_WORDS": "segscale run --dataset ci", "COMP_CWORD": "3"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 0
    assert capsys.readouterr().out == "plain,cityscapes\n"


def test_sites_are_listed_without_weights(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sites", "sd15", "--size", "256"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 16
    assert lines[2].split() == ["0", "down-level0-repeat0-vit-block0", "cross+self", "8", "32", "x", "32"]


def test_perf_prints_ratios_against_the_plain_forward(capsys: pytest.CaptureFixture[str]) -> None:
    main(["perf", "pocket-sd3", "--repeats", "1"])
    printed = capsys.readouterr().out
    assert "pocket-sd3, 64 px, vanilla: 6 text and 2 pixel maps" in printed
    assert "attention        2 modules chunked, 4 modules fused" in printed
    ratios = [float(line.split()[-3]) for line in printed.splitlines() if line.endswith("x plain")]
    assert len(ratios) == 2
    assert min(ratios) > 0
