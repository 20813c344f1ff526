"""Configs are checked against what they configure, and every mistake is one line that names the file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from segscale.arguments import arguments_of, check_arguments, check_complete
from segscale.catalogue import KINDS, Kind, config_files, config_folders, describe
from segscale.errors import ConfigError, UnknownNameError
from segscale.methods.build import build_method
from segscale.registry import build, load_config

if TYPE_CHECKING:
    from collections import deque

POCKET = '_base_ = "segscale::backbones/pocket-sd15.py"\n'
VOC = '_base_ = "segscale::datasets/voc.py"\n'
GOCA = '_base_ = "segscale::methods/goca.py"\n'
STANDARD = '_base_ = "segscale::protocols/standard.py"\n'
OWN_METHOD = """
from dataclasses import dataclass
from segscale.methods.method import Method
from segscale.registry import METHODS

@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class Choosy(Method):
    block: str
"""
PAPERS = '_base_ = "segscale::sweeps/papers.py"\n'

MISTAKES: dict[str, tuple[Kind, str, str]] = {
    "unknown key of a dataset": (
        "dataset",
        VOC + "bakground = True",
        ": PascalVOC takes no 'bakground'; did you mean ",
    ),
    "unknown key of a backbone": (
        "backbone",
        POCKET + "wieghts = 'x'",
        ": StableDiffusion takes no 'wieghts'; did you",
    ),
    "unknown key of a method": (
        "method",
        GOCA + "layer = 1",
        ": GoCA takes no 'layer'; did you mean layers? there are",
    ),
    "unknown key of a protocol": (
        "protocol",
        STANDARD + "treshold = 0.0",
        ": Protocol takes no 'treshold'; did you mean",
    ),
    "key of a base class": (
        "dataset",
        VOC + "data_rot = 'x'",
        ": PascalVOC takes no 'data_rot'; did you mean data_root",
    ),
    "wrong type": (
        "dataset",
        VOC + "background = 'no'",
        ": background = 'no' should be a valid boolean; correct backgr",
    ),
    "no such choice": ("method", GOCA + "layers = 'even'", ": layers = 'even' should be "),
    "neither of two types": ("protocol", STANDARD + "threshold = 'bst'", "'bst' should be a valid number or 'best'; "),
    "wrong type within": ("method", GOCA + "text_sites = ['a', 3]", ": text_sites[1] = 3 should be a valid string; "),
    "a text where there are several": ("method", GOCA + "text_sites = 'mid'", ": text_sites = 'mid' should be "),
    "an argument of the program": (
        "backbone",
        POCKET + "untrained = True",
        " sets untrained, which only the program passes",
    ),
    "a name": ("dataset", VOC + "name = 'voc'", " sets name, which only the program passes; remove it"),
    "unknown type": (
        "dataset",
        VOC + "type = 'PascalVoc'",
        ": no dataset is registered as 'PascalVoc'; did you mean Pas",
    ),
    "type that is no name": ("dataset", VOC + "type = 3", " sets no type; see docs/extending.md"),
    "method that is unknown": (
        "backbone",
        POCKET + "presets = dict(gocca=dict())",
        ", presets: unknown method 'gocca'; did you mean goca? there are: ",
    ),
    "preset with an unknown key": (
        "backbone",
        POCKET + "presets = dict(goca=dict(text_site=()))",
        ", presets['goca']: GoCA takes no 'text_site'; did you mean text_sites?",
    ),
    "preset of the wrong type": (
        "backbone",
        POCKET + "presets = dict(goca=dict(affinity_order='one'))",
        ", presets['goca']: affinity_order = 'one' should be a valid integer",
    ),
    "preset that is none": (
        "backbone",
        POCKET + "presets = dict(goca=3)",
        " = 3 should be a valid dictionary; correct ",
    ),
    "dataset that is unknown": (
        "protocol",
        STANDARD + "datasets = dict(vco=dict())",
        ", datasets: unknown dataset 'vco'; did you mean voc? there are: ",
    ),
    "rule of a dataset": (
        "protocol",
        STANDARD + "datasets = dict(voc=dict(absnt='zero'))",
        ", datasets['voc']: Protocol takes no 'absnt'; did you mean absent?",
    ),
    "argument of a dataset": (
        "protocol",
        STANDARD + "datasets = dict(voc=dict(arguments=dict(background=1)))",
        ", datasets['voc']: background = 1 should be a valid boolean",
    ),
    "rule that the class refuses": (
        "protocol",
        STANDARD + "threshold = 0.01",
        "cannot be used: ValueError: threshold ",
    ),
    "missing base": ("dataset", '_base_ = "segscale::datasets/vok.py"', "configs/datasets/vok.py; a base is a path "),
    "nearly method_defaults": (
        "backbone",
        POCKET + "method_default = dict()",
        "; did you mean method_defaults? ",
    ),
    "unknown key of sampling": (
        "backbone",
        POCKET + "sampling = dict(stepps=3)",
        ", sampling: SamplingDefaults takes no 'stepps'; did you mean steps?",
    ),
    "sampling without guidance": (
        "backbone",
        POCKET + "sampling = dict(_delete_=True, steps=3)",
        ", sampling: SamplingDefaults needs guidance; set guidance",
    ),
    "base beside the config": ("backbone", '_base_ = "backbones/sdxl.py"', "backbones/backbones/sdxl.py; a base is a "),
    "base that is no dictionary": ("backbone", POCKET + "presets = 3", ": presets = 3 should be a valid dictionary"),
    "code that raises": (
        "dataset",
        VOC + "split = 1 / 0",
        " cannot be used: ZeroDivisionError: division by zero (mine.py",
    ),
    "no Python": ("dataset", "type = (", " is not Python (line 1); correct or remove it"),
    "binary": ("dataset", "\0", " is not Python; correct or remove it"),
    "imports that are none": ("dataset", VOC + "custom_imports = dict(imports=3)", ": imports = 3 should be a valid "),
    "missing module": (
        "dataset",
        VOC + "custom_imports = dict(imports='no_such')",
        ": there is no module no_such; put its",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of own configs."""
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path))
    for kind in KINDS:
        (tmp_path / f"{kind}s").mkdir()
    return tmp_path


def failure(kind: Kind, **overrides: object) -> str:
    """The one line of building the config ``mine``."""
    with pytest.raises(ConfigError) as caught:
        build(kind, "mine", **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_config_fits_its_class(kind: Kind) -> None:
    for name in config_files(kind):
        load_config(kind, name, imports=True)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_file(mistake: str, folder: Path) -> None:
    kind, text, expected = MISTAKES[mistake]
    path = folder / f"{kind}s" / "mine.py"
    path.write_text(text)
    line = failure(kind)
    assert line.startswith(str(path))
    assert expected in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_of_the_program_is_one_line(kind: Kind, folder: Path) -> None:
    text = {"backbone": POCKET, "method": GOCA, "dataset": VOC, "protocol": STANDARD, "sweep": PAPERS}[kind]
    (folder / f"{kind}s" / "mine.py").write_text(text)
    assert failure(kind, no_argument=3).startswith(f"{kind} mine: ")


def test_a_missing_argument_is_one_line(folder: Path) -> None:
    path = folder / "protocols" / "mine.py"
    path.write_text('custom_imports = dict(imports=["segscale.bench.tasks.protocol"])\ntype = "Protocol"')
    assert failure("protocol") == f"{path}: Protocol needs class_oracle; set class_oracle"
    path = folder / "datasets" / "mine.py"
    path.write_text('custom_imports = dict(imports=["segscale.datasets.voc"])\ntype = "PascalVOC"')
    assert failure("dataset").startswith(f"{path} cannot be used: ")
    assert "'split'" in failure("dataset")


def test_a_field_that_neither_method_nor_backbone_sets_names_both_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "own_method.py").write_text(OWN_METHOD)
    path = folder / "methods" / "mine.py"
    path.write_text('custom_imports = dict(imports=["own_method"])\ntype = "Choosy"')
    backbone = config_files("backbone")["pocket-sd15"]
    with pytest.raises(ConfigError) as caught:
        build_method("mine", "pocket-sd15")
    assert str(caught.value) == f"{path}: Choosy needs block; set block there, or in presets of {backbone}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "1 / 0",
            "mine.py cannot be used: own_module raised ZeroDivisionError: division by zero (own_module.py, line 1)",
        ),
        ("import no_such", "own_module raised ModuleNotFoundError: No module named 'no_such' (own_module.py, line 1)"),
    ],
)
def test_a_module_that_raises_is_one_line(
    source: str, expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "own_module.py").write_text(source)
    (folder / "datasets" / "mine.py").write_text(VOC + 'custom_imports = dict(imports=["own_module"])')
    assert f"{expected}; correct the module" in failure("dataset")


def test_the_list_names_a_config_that_it_cannot_read(folder: Path) -> None:
    path = folder / "protocols" / "mine.py"
    path.write_bytes(b'"""\xff\x00"""')
    listing = subprocess.run([sys.executable, "-m", "segscale", "list"], capture_output=True, text=True)
    assert listing.stderr == f"segscale: error: {path} is not Python; correct or remove it\n"
    assert listing.stdout == ""
    assert listing.returncode == 2
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"mine\.py cannot be read \(Is a directory\)"):
        describe("protocol")


def test_configs_named_by_no_folder_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"SEGSCALE_CONFIGS names .*nowhere, which is no folder"):
        list(config_folders())


def test_an_unknown_name_can_be_caught() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'vok'; did you mean voc"):
        build("dataset", "vok")


@pytest.mark.parametrize("base", ['["segscale::datasets/voc.py"]', '"segscale::datasets/voc.py"'])
def test_shipped_configs_are_bases_from_anywhere(base: str, folder: Path) -> None:
    (folder / "datasets" / "mine.py").write_text(f"_base_ = {base}\ndata_root = 'here'\n")
    (folder / "datasets" / "next.py").write_text('_base_ = ["./mine.py"]\nsplit = "train"\n')
    shipped = load_config("dataset", "voc", imports=True)
    assert load_config("dataset", "mine", imports=True) == shipped | {"data_root": "here"}
    assert load_config("dataset", "next", imports=True) == shipped | {"data_root": "here", "split": "train"}


def test_lists_become_tuples_at_any_depth(folder: Path) -> None:
    (folder / "backbones" / "mine.py").write_text(POCKET + "presets = dict(goca=dict(text_sites=['mid', 'up']))")
    assert load_config("backbone", "mine", imports=True)["presets"]["goca"] == {"text_sites": ("mid", "up")}


class Base:
    def __init__(self, name: str, split: str, limit: float = 1, **rest: Any) -> None: ...


class Forwarding(Base):
    def __init__(
        self, order: Literal["up", "down"], limit: int, later: deque[int] | None = None, **arguments: Any
    ) -> None:
        super().__init__(split="val", limit=limit, **arguments)


class Inheriting(Forwarding):
    pass


class Closed(Base):
    def __init__(self, name: str) -> None:
        super().__init__(name, "val")


@dataclass(frozen=True, kw_only=True)
class Fields:
    side: int
    order: Literal["up", "down"] = "up"


@dataclass(frozen=True, kw_only=True)
class MoreFields(Fields):
    share: float = 0.5


def test_arguments_follow_what_constructors_forward() -> None:
    names = ["order", "limit", "later", "name", "split"]
    assert list(arguments_of(Forwarding)) == list(arguments_of(Inheriting)) == names
    assert [name for name, argument in arguments_of(Forwarding).items() if argument.required] == ["order", "limit"]
    assert list(arguments_of(Closed)) == ["name"]
    assert [name for name, argument in arguments_of(MoreFields).items() if argument.required] == ["side"]


@pytest.mark.parametrize(
    ("constructor", "values", "problem"),
    [
        (Forwarding, {"limit": 1.5}, "here: limit = 1.5 should be a valid integer; correct limit"),
        (Forwarding, {"later": 3, "split": "val"}, None),
        (Base, {"limit": 2}, None),
        (Base, {"anything": 2}, "here: Base takes no 'anything'; there are: name, split, limit"),
        (MoreFields, {"order": "u"}, "here: order = 'u' should be 'up' or 'down'; correct order"),
        (MoreFields, {"share": 1, "side": 2}, None),
        (MoreFields, {"side": True}, "here: side = True should be a valid integer; correct side"),
    ],
)
def test_values_are_checked_by_name_and_type(constructor: type, values: dict[str, object], problem: str | None) -> None:
    if problem is None:
        check_arguments("here", constructor, values)
        return
    with pytest.raises(ConfigError) as caught:
        check_arguments("here", constructor, values)
    assert str(caught.value) == problem


def test_required_fields_must_be_there() -> None:
    with pytest.raises(ConfigError, match="here: MoreFields needs side; set side"):
        check_complete("here", MoreFields, {"share": 1.0})
