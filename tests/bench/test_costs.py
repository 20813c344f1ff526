"""What measures time: steps that add up, stand-ins that show overlap, and the commands that print them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segscale.backbones.build import build_backbone
from segscale.bench.commands.main import main
from segscale.bench.costs import breakdown, pipeline, sharing, throughput
from segscale.bench.costs.breakdown import Breakdown, break_down
from segscale.bench.costs.forward import compare
from segscale.bench.costs.pace import Pace
from segscale.bench.costs.pipeline import pipeline_rates
from segscale.bench.runs.store import find_runs
from segscale.errors import UserError
from segscale.methods.build import build_method

SMALL = replace(throughput.LOADS[0], width=50, height=40)


def test_every_step_of_an_image_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "LOADS", (SMALL,))
    backbone = build_backbone("pocket-sd15")
    methods = [build_method(name, "pocket-sd15") for name in ("vanilla", "goca")]
    slow = backbone.denoise

    def slower(*arguments: object) -> object:
        time.sleep(0.3)
        return slow(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(backbone, "denoise", slower)
    result = break_down(backbone, methods, batch=3, repeats=1)
    assert all(seconds >= 0 for seconds in result.steps.values())
    assert result.denoiser >= 0.1  # a third of the sleep: seconds are those of one image
    assert max(result.steps, key=result.steps.__getitem__) == "denoiser"


def test_the_first_call_of_text_encoder_and_autoencoder_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone("pocket-sd15")
    encode_text, encode_images = backbone.encode_text, backbone.encode_images
    calls = {"text": 0, "image": 0}

    def slow_at_first(kind: str, whole: Any) -> Any:
        def called(*arguments: Any) -> Any:
            calls[kind] += 1
            time.sleep(0.5 if calls[kind] == 1 else 0)
            return whole(*arguments)

        return called

    monkeypatch.setattr(backbone, "encode_text", slow_at_first("text", encode_text))
    monkeypatch.setattr(backbone, "encode_images", slow_at_first("image", encode_images))
    result = compare(backbone, [build_method("vanilla", "pocket-sd15")], repeats=1)
    assert calls["image"] == 2
    assert max(result.text.seconds, result.image.seconds) < 0.5


def test_what_the_device_waits_for_is_what_workers_do() -> None:
    result = Breakdown(decode=1, text=2, vae=3, denoiser=4, observing=5, methods=6, evaluation=7, store=8)
    assert result.waiting == 1 + 7 + 8
    assert result.busy_share == pytest.approx(20 / 36)


@pytest.mark.parametrize(("name", "options"), [("vanilla", {"image_size": 32}), ("goca-described", {})])
def test_methods_that_see_other_noise_or_words_have_no_breakdown_together(name: str, options: dict[str, int]) -> None:
    method, other = build_method("vanilla", "pocket-sd15"), build_method(name, "pocket-sd15", **options)
    with pytest.raises(UserError, match="cannot share a forward"):
        break_down(build_backbone("pocket-sd15"), [method, other], 1, 1)


def test_a_job_takes_the_forwards_that_its_cells_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two share their noised image, a third has another."""
    names = ("vanilla", "goca", "seg4diff-described")
    methods = [build_method(name, "pocket-sd15") for name in names]
    monkeypatch.setattr(sharing, "build_methods", lambda *_: methods)
    monkeypatch.setattr(sharing, "PROTOCOLS", ("standard",))
    (pair,) = sharing.pairs("pocket-sd15", 2, 1)
    assert (pair.cells.forwards, pair.jobs.forwards) == (6, 4)
    assert pair.cells.seconds > 0


@pytest.mark.parametrize("batch", [1, 5])
def test_a_stand_in_makes_whole_runs_at_no_more_than_its_rate(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "LOADS", (SMALL,))
    plain, ahead = pipeline_rates(Pace(0.02, 12, batch), 1, tmp_path)
    assert (plain.workers, ahead.workers) == (0, 1)
    for rate in (plain, ahead):
        assert rate.device == pytest.approx(50)
        assert 0 < rate.share < 1
        assert rate.run < rate.steady < rate.device
        (store,) = find_runs(tmp_path / SMALL.name / str(rate.workers))
        assert len(store.done()) == 12


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["pocket-sd15", "--breakdown", "--batch", "2", "--repeats", "1"], "without --workers the device is busy"),
        (["--pipeline", "--seconds", "0.001", "--images", "2"], "2 workers"),
        (["pocket-sd15", "--repeats", "1"], "x plain"),
    ],
)
def test_perf_prints_what_is_asked(
    arguments: list[str], printed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (pipeline, breakdown):
        monkeypatch.setattr(module, "LOADS", (SMALL,))
    main(["perf", *arguments])
    assert printed in capsys.readouterr().out
