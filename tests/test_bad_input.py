"""Sixty kinds of bad input: each ends with status 2 and one line that says what is wrong and what to type next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from segscale.backbones.loading.pretrained import resolve_weights
from segscale.bench.commands.main import main

Prepare = Callable[[Path], str]
"""Makes the bad thing in a folder, and returns the command."""
CASES: dict[str, tuple[Prepare, str, str]] = {}
"""By its name: the input, a part of what is said to be wrong, and a part of the advice."""
LABELS = "VOCdevkit/VOC2012/SegmentationClass"
IMAGES = "VOCdevkit/VOC2012/JPEGImages"
LIST = "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
RUN_VOC = "run --dataset voc --data-root {folder}"


def case(problem: str, hint: str) -> Callable[[Prepare], Prepare]:
    """Register a kind of bad input by the name of its function."""

    def add(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__] = (prepare, problem, hint)
        return prepare

    return add


def typed(name: str, command: str, problem: str, hint: str) -> None:
    """A command that is wrong by itself."""
    CASES[name] = (lambda folder: command, problem, hint)


typed("unknown_command", "rnu", "there is no command 'rnu'", "did you mean run?")
typed("unknown_subcommand", "data chekc voc", "there is no command 'chekc'", "segscale data --help")
typed("unknown_option", "run --limits 3", "there is no option '--limits'", "did you mean --limit?")
typed("option_without_value", "quirks --limit", "'--limit' requires an argument", "segscale quirks --help")
typed("too_many_arguments", "sites sd15 sd3", "unexpected extra argument", "segscale sites --help")
typed("missing_argument", "sites", "missing argument 'BACKBONE'", "segscale sites --help")
typed("no_number", "run --limit many", "'many' is not a positive number", "segscale run --help")
typed("negative_seed", "run --seed -3", "'-3' is not a number from 0", "segscale run --help")
typed("unknown_backbone", "run --backbone sd51", "unknown backbone 'sd51'", "did you mean sd")
typed("unknown_method", "run --method goka", "unknown method 'goka'", "did you mean goca")
typed("unknown_dataset", "run --dataset vok", "unknown dataset 'vok'", "did you mean voc?")
typed("unknown_protocol", "run --protocol standart", "unknown protocol 'standart'", "did you mean standard?")
typed("empty_list", "run --method ,", "the method list is empty", "segscale run --help")
typed("unknown_split", "run --split test", "pocket has no split 'test'", "there are: train, calibration, val")
typed("unknown_dtype", "run --dtype int3", "'int3' is not one of", "segscale run --help")
typed("device_that_is_not_here", "run --device cuda:77", "there is no device 'cuda:77'", "there are: cpu")
typed("offload_without_gpu", "run --offload model", "offloading moves parts", "name the GPU with --device")
typed("revision_of_a_folder", "run --revision v2", "it has no revision v2", "leave it out")
typed("method_of_another_protocol", "run --method seg4diff-masks", "gives nameless masks", "segscale list")
typed("protocol_without_this_dataset", "run --protocol seg4diff --dataset context60", "says nothing of", "use standard")
typed("calibration_of_a_best_threshold", "calibrate --protocol goca", "chooses its threshold", "calibrate standard")
typed("unknown_site", "layers pocket-sd3 --sites up", "has no site 'up'", "segscale sites pocket-sd3")
typed("joint_attention_of_a_unet", "values pocket-sd15", "has no joint attention", "such as pocket-sd3")
typed("size_of_no_latent", "perf pocket-flux --size 100", "takes no images of 100 px", "use a multiple of 8")
typed(
    "class_twice", "predict x.png --classes star,star", "'star' is in the class list twice", "segscale predict --help"
)
typed("no_classes", "predict x.png --classes ,", "the class list is empty", "segscale predict --help")
typed(
    "prompts_and_dataset",
    "generate pocket-sd15 --prompts x.txt --dataset voc",
    "take no dataset",
    "leave out --dataset",
)
typed(
    "head_that_is_not_there",
    "align pocket-sd3 {folder} --reading described --head-learning-rate 7",
    "there is no convolution",
    "leave it out",
)
typed("captioner_without_name", "caption --endpoint http://x/v1", "model is not named", "--captioner")
typed("endpoint_that_is_no_address", "caption --endpoint x --captioner y", "no web address", "http")


def config(folder: Path, kind: str, text: str | bytes) -> Path:
    path = folder / "configs" / f"{kind}s" / "own.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@case("own.py is not Python (line 1)", "correct or remove it")
def config_that_is_no_python(folder: Path) -> str:
    config(folder, "method", "type = (")
    return "list"


@case("own.py is not Python", "correct or remove it")
def binary_config(folder: Path) -> str:
    config(folder, "dataset", b"\x00\xff\xfe")
    return "list"


@case("own.py cannot be read", "correct or remove it")
def folder_in_the_place_of_a_config(folder: Path) -> str:
    (folder / "configs/methods/own.py").mkdir(parents=True)
    return "run --method own"


@case("own.py sets no type", "docs/extending.md")
def config_without_type(folder: Path) -> str:
    config(folder, "backbone", 'weights = "x"')
    return "run --backbone own"


@case("no method is registered as 'Nothing'", "there are: ")
def config_of_an_unknown_type(folder: Path) -> str:
    config(folder, "method", 'type = "Nothing"')
    return "run --method own"


@case("there is no module nowhere_at_all", "put its module on PYTHONPATH")
def config_of_a_missing_module(folder: Path) -> str:
    config(folder, "method", 'type = "X"\ncustom_imports = dict(imports=["nowhere_at_all"])')
    return "run --method own"


@case("raised ZeroDivisionError", "correct the module")
def module_that_raises(folder: Path) -> str:
    (folder / "bad_newcomer.py").write_text("1 / 0")
    config(folder, "method", 'type = "X"\ncustom_imports = dict(imports=["bad_newcomer"])')
    return "run --method own"


@case("GoCA takes no 'tmestep'", "did you mean timestep?")
def misspelt_argument(folder: Path) -> str:
    config(folder, "method", '_base_ = ["segscale::methods/goca.py"]\ntmestep = 3')
    return "run --method own"


@case("timestep = 'late' should be", "correct timestep")
def argument_of_another_type(folder: Path) -> str:
    config(folder, "method", '_base_ = ["segscale::methods/goca.py"]\ntimestep = "late"')
    return "run --method own"


@case("method goca is configured twice", "rename one")
def name_that_exists(folder: Path) -> str:
    config(folder, "method", "").rename(folder / "configs/methods/goca.py")
    return "list"


@case("sdxxl.py", "a base is a path relative to its config")
def base_that_is_not_there(folder: Path) -> str:
    config(folder, "backbone", '_base_ = ["./sdxxl.py"]')
    return "run --backbone own"


def voc(folder: Path) -> str:
    """Two images of VOC, of which the first is damaged by a case."""
    for path in (LABELS, IMAGES, Path(LIST).parent):
        (folder / path).mkdir(parents=True)
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 12
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), "green").save(folder / IMAGES / f"{name}.jpg")
        Image.fromarray(label).save(folder / LABELS / f"{name}.png")
    (folder / LIST).write_text("a\nb\n")
    return RUN_VOC


@case("there is no ", "docs/datasets.md")
def data_root_without_data(folder: Path) -> str:
    return RUN_VOC


@case("lies inside the folder of the dataset", "use --data-root ")
def data_root_too_deep(folder: Path) -> str:
    voc(folder)
    return "run --dataset voc --data-root {folder}/VOCdevkit"


@case("val.txt lists no image", "replace the file")
def list_of_nothing(folder: Path) -> str:
    command = voc(folder)
    (folder / LIST).write_text("\n\n")
    return command


@case("val.txt is damaged", "replace the file")
def list_that_is_no_text(folder: Path) -> str:
    command = voc(folder)
    (folder / LIST).write_bytes(b"a\nb\xff\xfe\n")
    return command


@case("there is no ", "replace the file")
def missing_image(folder: Path) -> str:
    command = voc(folder)
    (folder / IMAGES / "a.jpg").unlink()
    return command


@case("only A.jpg", "rename it to a.jpg")
def image_in_another_case(folder: Path) -> str:
    command = voc(folder)
    (folder / IMAGES / "a.jpg").rename(folder / IMAGES / "A.jpg")
    return command


@case("it is empty", "replace the file")
def empty_image(folder: Path) -> str:
    command = voc(folder)
    (folder / IMAGES / "a.jpg").write_bytes(b"")
    return command


@case("is not a regular file", "replace the file")
def folder_in_the_place_of_a_mask(folder: Path) -> str:
    command = voc(folder)
    (folder / LABELS / "a.png").unlink()
    (folder / LABELS / "a.png").mkdir()
    return command


@case("is 40x31 but its image is 40x30", "replace the file")
def mask_of_another_size(folder: Path) -> str:
    command = voc(folder)
    Image.new("L", (40, 31)).save(folder / LABELS / "a.png")
    return command


@case("has id 99", "replace the file")
def mask_with_an_unknown_class(folder: Path) -> str:
    command = voc(folder)
    Image.new("L", (40, 30), 99).save(folder / LABELS / "a.png")
    return command


@case("is an RGB image, not a map", "replace the file")
def coloured_mask(folder: Path) -> str:
    command = voc(folder)
    Image.new("RGB", (40, 30)).save(folder / LABELS / "a.png")
    return command


@case("lists a twice", "list it once")
def id_twice(folder: Path) -> str:
    command = voc(folder)
    (folder / LIST).write_text("a\na\n")
    return command


@case("all 2 images were left out", "segscale data check voc")
def no_image_is_usable(folder: Path) -> str:
    command = voc(folder)
    for name in ("a", "b"):
        (folder / IMAGES / f"{name}.jpg").write_bytes(b"")
    return command + " --skip-bad"


@case("voc val: 2 images, but not the 1449 of the official split", "docs/datasets.md")
def check_of_a_damaged_folder(folder: Path) -> str:
    voc(folder)
    (folder / IMAGES / "a.jpg").write_bytes(b"")
    return "data check voc --data-root {folder} --workers 1"


@case("there is no ", "unpack COCO-Stuff's stuffthingmaps")
def nothing_to_prepare_from(folder: Path) -> str:
    return "data prepare coco-stuff-27 --data-root {folder} --workers 1"


def captions(folder: Path, content: object) -> str:
    (folder / "captions.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return "run --captions {folder}/captions.json"


@case("cannot read ", "segscale caption")
def captions_that_are_not_there(folder: Path) -> str:
    return "run --captions {folder}/captions.json"


@case("is damaged", "segscale caption")
def captions_that_are_no_json(folder: Path) -> str:
    return captions(folder, "{")


@case("has no caption under 'val-00000'", "segscale caption")
def captions_of_another_form(folder: Path) -> str:
    return captions(folder, {"val-00000": {"text": "a star"}})


@case("has no caption of any image", "segscale caption")
def captions_of_another_split(folder: Path) -> str:
    return captions(folder, {"train-00000": "a star"})


@case("has two captions for 'val-00000'", "leave one of them")
def two_captions_for_one_image(folder: Path) -> str:
    return captions(folder, {"val-00000": "a star", "val-00000.jpg": "a ring"})


UNET = "unet/diffusion_pytorch_model.safetensors"


def weights(folder: Path) -> tuple[Path, str]:
    """A copy of a twin's weights, and the command that uses them."""
    copy = Path(shutil.copytree(resolve_weights("pocket:pocket-sd15"), folder / "weights"))
    return copy, "run --limit 1 --weights {folder}/weights"


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    copy, command = weights(folder)
    tensors = load_file(copy / UNET)
    change(tensors)
    save_file(tensors, copy / UNET, metadata={"format": "pt"})
    return command


@case("no model_index.json", "check --weights")
def weights_that_are_not_there(folder: Path) -> str:
    return "run --weights {folder}/weights"


@case("weights of another family (StableDiffusionXLPipeline", "segscale list")
def weights_of_another_family(folder: Path) -> str:
    return "run --limit 1 --weights pocket:pocket-sdxl"


@case("unet lacks 1 tensor: conv_in.weight", "copy the folder anew")
def missing_tensor(folder: Path) -> str:
    return changed(folder, lambda tensors: tensors.pop("conv_in.weight"))


@case("unet has 1 tensor that is not finite: conv_in.weight", "copy the folder anew")
def tensor_of_nan(folder: Path) -> str:
    return changed(folder, lambda tensors: tensors["conv_in.weight"].fill_(torch.nan))


@case("cannot be loaded", "check the folder")
def truncated_tensors(folder: Path) -> str:
    copy, command = weights(folder)
    (copy / UNET).write_bytes((copy / UNET).read_bytes()[:1000])
    return command


@case("has no folder tokenizer", "copy it from where weights came from")
def weights_without_tokenizer(folder: Path) -> str:
    copy, command = weights(folder)
    shutil.rmtree(copy / "tokenizer")
    return command


@case("holds no safetensors, only diffusion_pytorch_model.bin", "from_pretrained(")
def pickled_weights(folder: Path) -> str:
    copy, command = weights(folder)
    (copy / UNET).rename((copy / UNET).with_suffix(".bin"))
    return command


@case("is one file, not a diffusers folder", "from_single_file(")
def weights_in_one_file(folder: Path) -> str:
    (folder / "model.safetensors").write_bytes(b"")
    return "run --weights {folder}/model.safetensors"


@case("nobody/nothing is not in the cache", "hf download nobody/nothing")
def weights_that_are_not_in_the_cache(folder: Path) -> str:
    return "run --offline --weights nobody/nothing"


@case("there are no runs", "segscale bench")
def tables_of_nothing(folder: Path) -> str:
    return "table"


@case("no published numbers", "--paper FILE")
def published_numbers_that_are_no_table(folder: Path) -> str:
    (folder / "paper.csv").write_text("a,b\n1,2\n")
    main(["run", "--limit", "1", "--results", str(folder / "results")])
    return "table --paper {folder}/paper.csv"


def stored(folder: Path, text: str) -> str:
    path = folder / "results/runs/b/m/d/0123456789ab/run.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return "leaderboard"


@case("no run in ", "segscale bench")
def a_run_that_is_no_json(folder: Path) -> str:
    return stored(folder, "{")


@case("no run in ", "segscale bench")
def a_run_without_anything(folder: Path) -> str:
    return stored(folder, "{}")


@case("cannot be written", "choose another --results")
def results_that_are_a_file(folder: Path) -> str:
    (folder / "results").write_text("")
    return "run --limit 1"


@case("photo.png is damaged", "give a picture that Pillow can read")
def picture_that_is_none(folder: Path) -> str:
    (folder / "photo.png").write_text("no picture")
    return "predict {folder}/photo.png --classes star --output {folder}/out"


@case("has 32-bit values", "save it with 8 or 16 bits per value")
def picture_of_unknown_range(folder: Path) -> str:
    Image.new("F", (8, 8)).save(folder / "photo.tiff")
    return "predict {folder}/photo.tiff --classes star --output {folder}/out"


@case("'background' is what is left over", "leave it out")
def background_as_a_class(folder: Path) -> str:
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    return "predict {folder}/photo.png --classes star,background --output {folder}/out"


ENVIRONMENT = {
    "configs_that_are_nowhere": (
        "SEGSCALE_CONFIGS",
        "/nowhere",
        "/nowhere, which is no folder",
        "unset SEGSCALE_CONFIGS",
    ),
    "log_level_that_is_none": ("SEGSCALE_LOG", "loud", "SEGSCALE_LOG is 'loud'", "such as debug"),
}


def ends_in_one_line(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Problem and advice of the only line on standard error, beside a progress bar."""
    arguments = [word.format(folder=folder) for word in command.split()]
    if arguments[0] in ("run", "calibrate", "layers", "values", "table", "leaderboard"):
        arguments += ["--results", str(folder / "results")]
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    written = capsys.readouterr().err
    lines = [line for line in written.splitlines() if line.strip() and "image/s" not in line and "file/s" not in line]
    errors = [line for line in lines if line.startswith("segscale: error: ")]
    assert len(errors) == 1, written
    assert errors[0] == lines[-1]
    assert "Traceback" not in written
    problem, _, advice = errors[0].removeprefix("segscale: error: ").partition("; ")
    return problem, advice


@pytest.fixture(autouse=True)
def own_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_one_line_with_advice(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, problem, hint = CASES[name]
    told, advice = ends_in_one_line(prepare(tmp_path), tmp_path, capsys)
    assert problem in told
    assert hint in advice


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_so_does_a_wrong_variable(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, value, problem, hint = ENVIRONMENT[name]
    monkeypatch.setenv(variable, value)
    told, advice = ends_in_one_line("list", tmp_path, capsys)
    assert problem in told
    assert hint in advice


def test_there_are_sixty_kinds() -> None:
    assert len(CASES) + len(ENVIRONMENT) >= 60
