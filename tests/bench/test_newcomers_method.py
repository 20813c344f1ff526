"""What a method of one's own may not do is one line that names its config, the method and the image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segscale.bench.commands.main import main
from segscale.methods.build import build_method

SOURCE = """
from dataclasses import dataclass
import torch
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.methods.method import ClassScores, Method
from segscale.registry import METHODS

@METHODS.register_module(name="{name}")
@dataclass(frozen=True, kw_only=True)
class Own(Method):
    normalised = {normalised}

    @property
    def settings(self):
        return CaptureSettings(64, Timestep(t=200))

    def request(self, sites):
        return {request}

    def __call__(self, maps):
        maps_of = len(maps.tokens[0].classes)
        return {scores}
"""
GOOD = "MapRequest(text=frozenset([sites[0].name]))"
RAW = "ClassScores(torch.full((maps_of, 8, 8), 0.02), torch.zeros(8, 8))"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The config of a method of one's own, written by the test."""
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "configs/methods").mkdir(parents=True)
    return tmp_path / "configs/methods/own.py"


def write(config: Path, scores: str = RAW, normalised: bool = False, request: str = GOOD) -> None:
    name = f"own_{abs(hash((scores, normalised, request, str(config))))}"
    module = SOURCE.format(name=name, scores=scores, normalised=normalised, request=request)
    (config.parents[2] / f"{name}.py").write_text(module)
    config.write_text(f'"""Own."""\ncustom_imports = dict(imports=["{name}"])\ntype = "{name}"\n')


def refused(config: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--method", "own", "--limit", "1", "--results", str(config.parents[2] / "results")])
    assert caught.value.code == 2
    written = capsys.readouterr().err
    assert "Traceback" not in written
    return written.strip().splitlines()[-1]


WRONG = {
    "1 / 0": "raised ZeroDivisionError: division by zero",
    "maps.text['nowhere']": "raised KeyError: 'nowhere'",
    "None": "gave a NoneType instead of ClassScores",
    "ClassScores(torch.zeros(7, 8, 8), torch.zeros(8, 8))": "gave 7 maps for 1 classes",
    "ClassScores(torch.zeros(2, 64), torch.zeros(8, 8))": "gave maps of shape (2, 64), not (classes, height, width)",
    "ClassScores(torch.zeros(2, 8, 8), torch.zeros(4, 4))": "gave background of shape (4, 4) beside classes of (8, 8)",
}


@pytest.mark.parametrize("scores", WRONG)
def test_wrong_answers_name_the_config_the_method_and_the_image(
    scores: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(own, scores)
    line = refused(own, capsys)
    assert line.startswith(f"segscale: error: pocket image val-00000: method own ({own}) ")
    assert WRONG[scores] in line
    assert line.endswith("; correct its module, or see docs/extending.md")


def test_a_request_that_raises_is_named_too(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(own, request="1 / 0")
    line = refused(own, capsys)
    assert re.search(r"method own \(.*own\.py\) raised ZeroDivisionError: division by zero \(own_.*, line \d+\)", line)


def test_the_traceback_is_in_the_debug_log(
    own: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(own, "1 / 0")
    monkeypatch.setenv("SEGSCALE_LOG", "debug")
    refused(own, capsys)
    assert any("ZeroDivisionError" in (record.exc_text or "") for record in caplog.records)


def test_raw_attention_that_is_declared_stretched_is_refused(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(own, normalised=True)
    line = refused(own, capsys)
    assert "says that its scores span [0, 1], but they reach 0.02" in line
    assert "set normalised = False, or stretch them with segscale.methods.rescaling.min_max" in line
    write(own, normalised=False)
    main(["run", "--method", "own", "--limit", "1", "--results", str(own.parents[2] / "results")])


@pytest.mark.parametrize(
    ("rescaling", "order", "stretched"),
    [
        ("raw", 0, False),
        ("share", 0, False),
        ("share+min-max", 0, True),
        ("maximum", 0, True),
        ("share+min-max x raw", 0, False),
        ("share+min-max x raw+min-max", 0, True),
        ("raw", 1, True),
    ],
)
def test_goca_is_stretched_by_its_last_step(rescaling: str, order: int, stretched: bool) -> None:
    method = build_method("goca", "pocket-sd15", rescaling=rescaling, affinity_order=order)
    assert method.normalised is stretched


def test_an_unknown_level_of_the_log_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGSCALE_LOG", "loud")
    with pytest.raises(SystemExit):
        main(["list"])
    assert "SEGSCALE_LOG is 'loud'; " in capsys.readouterr().err
