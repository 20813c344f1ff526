"""A newcomer adds one module and one config, and everything finds it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscale.backbones.build import build_backbone
from segscale.catalogue import config_files, describe
from segscale.errors import UserError
from segscale.registry import BACKBONES

TESTS = Path(__file__).parent

BACKBONE = '''
from segscale.backbones.stable_diffusion import StableDiffusion
from segscale.registry import BACKBONES

@BACKBONES.register_module()
class Newcomer(StableDiffusion):
    """A family of its own."""
'''
METHOD = '''
from dataclasses import dataclass
import torch
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.methods.method import ClassScores, Method
from segscale.registry import METHODS

@METHODS.register_module()
@dataclass(frozen=True, kw_only=True)
class Newest(Method):
    """The first layer, as it is."""

    image_size: int
    timestep: float
    normalised = False

    @property
    def settings(self):
        return CaptureSettings(self.image_size, Timestep(t=self.timestep))

    def request(self, sites):
        return MapRequest(frozenset([sites[0].name]))

    def __call__(self, maps):
        (name, text), = maps.text.items()
        grid = maps.sites[name].grid
        words = [text[:, list(columns)].mean(1).reshape(grid.height, grid.width) for columns in maps.tokens[0].classes]
        return ClassScores(torch.stack(words), torch.zeros(grid.height, grid.width))
'''
CONFIGS = {
    "backbones/newcomer.py": '"""A backbone from elsewhere."""\n'
    'custom_imports = dict(imports=["newcomer_backbone"])\ntype = "Newcomer"\nweights = "pocket:pocket-sd15"\n'
    'method_defaults = dict(image_size=64, feature_size=16, timestep=200, reference_site="mid-vit-block0",\n'
    '    affinity_sites=("mid-vit-block0",), affinity_order=1)\n',
    "methods/newest.py": '"""A method from elsewhere."""\n'
    'custom_imports = dict(imports=["newest_method"])\ntype = "Newest"\n',
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of someone with a folder of own configs and modules."""
    (tmp_path / "newcomer_backbone.py").write_text(BACKBONE)
    (tmp_path / "newest_method.py").write_text(METHOD)
    for name, text in CONFIGS.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return environment(tmp_path)


def environment(folder: Path) -> dict[str, str]:
    """The environment in which configs and modules of ``folder`` are found."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return os.environ | {"SEGSCALE_CONFIGS": str(folder / "configs"), "PYTHONPATH": path}


def output(variables: dict[str, str], *command: str) -> str:
    process = subprocess.run([sys.executable, *command], env=variables, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_every_parametrised_test_covers_a_newcomer(elsewhere: dict[str, str]) -> None:
    suites = [str(TESTS / "backbones/test_every_backbone.py"), str(TESTS / "methods/test_every_method.py")]
    printed = output(elsewhere, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", "newcomer", *suites)
    alone = output(dict(os.environ), "-m", "pytest", "-q", "--collect-only", "-k", "pocket-sd15", *suites)
    expected = {line.replace("pocket-sd15", "newcomer") for line in alone.splitlines() if "::" in line}
    passed = {line.removeprefix("PASSED ") for line in printed.splitlines() if line.startswith("PASSED ")}
    assert expected
    assert expected <= passed
    assert any("newest" in line for line in passed)


def examples() -> list[str]:
    """The Python blocks of docs/extending.md."""
    return re.findall(r"```python\n(.*?)```", (TESTS.parent / "docs/extending.md").read_text(), re.DOTALL)


def test_the_examples_of_the_documentation_work(tmp_path: Path) -> None:
    checkpoint, method, method_config, dataset, dataset_config, protocol = examples()
    files = {
        "one_site.py": method,
        "ten.py": dataset,
        "configs/backbones/my-sdxl.py": checkpoint,
        "configs/methods/one-site.py": method_config,
        "configs/datasets/ten.py": dataset_config,
        "configs/protocols/foreground.py": protocol,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in ("images/val", "masks/val"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for index in range(2):
        Image.new("RGB", (40, 30), "green").save(tmp_path / f"data/images/val/{index}.jpg")
        Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(tmp_path / f"data/masks/val/{index}.png")
    names = ["--backbone", "pocket-sd3", "--method", "one-site", "--dataset", "ten"]
    rules = ["--protocol", "standard,foreground"]
    arguments = [*names, *rules, "--data-root", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    printed = output(environment(tmp_path), "-m", "segscale", "run", *arguments)
    standard, foreground = printed.split("pocket-sd3 x one-site on ten ")[1:]
    assert standard.startswith("(standard)")
    assert foreground.startswith("(foreground)")
    assert "2 images" in standard
    # The only labelled class is the mean, where background is not scored.
    dog_and_mean = r"dog +([\d.]+)(?:.|\n)* mIoU ([\d.]+)"
    assert len({*re.findall(dog_and_mean, foreground)[0]}) == 1
    assert len({*re.findall(dog_and_mean, standard)[0]}) == 2
    verify = ["-m", "segscale", "verify", "--results", str(tmp_path / "results")]
    assert output(environment(tmp_path), *verify).count("2 of 2 images agree") == 2
    Image.new("RGB", (40, 30), "red").save(tmp_path / "data/images/val/0.jpg")
    Image.new("L", (40, 30)).save(tmp_path / "data/masks/val/1.png")
    process = subprocess.run([sys.executable, *verify], env=environment(tmp_path), capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stdout.count("  0: the image changed\n  1: the label changed\n") == 2
    assert re.search(r"my-sdxl +SDXL with weights of my own", output(environment(tmp_path), "-m", "segscale", "list"))
    # A quarter of the 4,096 pixels that this site has at SDXL's own 1024 px.
    assert re.search(
        r"up-level1-repeat0-vit-block0 .*32 x 32", output(environment(tmp_path), "-m", "segscale", "sites", "my-sdxl")
    )


def test_a_newcomer_is_listed_and_runs(elsewhere: dict[str, str], tmp_path: Path) -> None:
    assert "A backbone from elsewhere." in output(elsewhere, "-m", "segscale", "list")
    names = ["--backbone", "newcomer", "--method", "newest,vanilla", "--results", str(tmp_path)]
    printed = output(elsewhere, "-m", "segscale", "bench", *names, "--limit", "3")
    assert "| newcomer, " in printed
    assert "| newest " in printed


def test_a_name_that_exists_is_an_error(elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(elsewhere["SEGSCALE_CONFIGS"])
    (folder / "backbones" / "pocket-sd15.py").write_text(CONFIGS["backbones/newcomer.py"])
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(folder))
    with pytest.raises(UserError, match="backbone pocket-sd15 is configured twice"):
        config_files("backbone")


def test_a_type_that_exists_is_an_error() -> None:
    build_backbone("pocket-sd15")
    with pytest.raises(KeyError, match="StableDiffusion is already registered"):
        BACKBONES.register_module(name="StableDiffusion")(object)


def test_a_config_without_a_type_is_one_line(elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(elsewhere["SEGSCALE_CONFIGS"])
    (folder / "backbones" / "untyped.py").write_text('"""Nothing."""\n')
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(folder))
    with pytest.raises(UserError, match=r"untyped\.py sets no type; see docs/extending.md"):
        build_backbone("untyped")


def test_a_newcomer_that_raises_is_one_line(elsewhere: dict[str, str]) -> None:
    folder = Path(elsewhere["SEGSCALE_CONFIGS"])
    source = METHOD + '\n    def __post_init__(self):\n        raise ValueError("no luck\\nat all")\n'
    (folder.parent / "newest_method.py").write_text(source)
    command = [sys.executable, "-m", "segscale", "run", "--method", "newest", "--limit", "1"]
    process = subprocess.run(command, env=elsewhere, capture_output=True, text=True)
    place = f"(newest_method.py, line {len(source.splitlines())})"
    line = f"segscale: error: {folder}/methods/newest.py cannot be used: ValueError: no luck {place}"
    assert process.stderr.strip() == f"{line}; see docs/extending.md for what a config holds"
    assert process.returncode == 2


def test_a_config_whose_module_is_missing_is_one_line(
    elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(elsewhere["SEGSCALE_CONFIGS"])
    text = CONFIGS["backbones/newcomer.py"].replace("newcomer_backbone", "nowhere_to_be_found")
    (folder / "backbones" / "lost.py").write_text(text)
    (folder / "methods" / "broken.py").write_text("type = (")
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(folder))
    with pytest.raises(UserError, match=r"lost\.py cannot be used: .*; put its module on PYTHONPATH"):
        build_backbone("lost")
    with pytest.raises(UserError, match=r"broken\.py is not Python"):
        describe("method")
