"""What a LoRA buys, where it is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from segscale.backbones.build import build_backbone
from segscale.backbones.loading.lora import Lora, save_lora
from segscale.bench.commands.main import main
from segscale.bench.report.tables import table_rows

pytest.importorskip("peft")

LAYER = "transformer_blocks.4.attn.to_q"
CHOSEN = ["pocket-sd3", "--method", "vanilla,goca"]


def a_lora(folder: Path, up: float) -> str:
    denoiser = build_backbone("pocket-sd3").denoiser
    outputs, inputs = denoiser.get_parameter(f"{LAYER}.weight").shape
    generator = torch.Generator().manual_seed(0)
    down = torch.randn(1, inputs, generator=generator)
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": torch.full((outputs, 1), up)}
    save_lora(folder, "transformer", Lora(tensors, 1, 1.0))
    return str(folder)


def gain(folder: Path, up: float, images: int, *more: str) -> pd.DataFrame:
    lora, results = a_lora(folder / "lora", up), folder / "results"
    main(["lora-gain", *CHOSEN, "--lora", lora, "--limit", str(images), *more, "--results", str(results)])
    (written,) = (results / "analysis").glob(
        f"pocket-sd3-lora-pocket-val-standard-vanilla+goca-lora-gain*-first{images}.csv"
    )
    assert ("-guidance2-steps2-" in written.name) == ("--steps" in more)
    assert ("-pictures4-pocket-" in written.name) == ("--drawn" in more)
    return pd.read_csv(written)


def test_a_lora_of_zeros_buys_nothing(tmp_path: Path) -> None:
    chosen = ("--pictures", "4", "--drawn", "pocket", "--steps", "2", "--guidance", "2", "--batch", "4")
    table = gain(tmp_path, 0.0, 2, *chosen)
    assert gain(tmp_path, 0.0, 2, *chosen).equals(table), "no larger result is replaced"
    assert [*table["measure"]] == ["vanilla", "goca", "recall", "precision", "f1", "ground", "frechet"]
    assert table["plain"].tolist() == table["lora"].tolist()
    assert table["difference"].tolist() == [0] * 7
    assert [*table["items"]] == [2, 2, 4, 4, 4, 4, 4]


def test_the_difference_is_that_of_both_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = gain(tmp_path, 5.0, 60, "--batch", "20")
    for row in table_rows(table):
        assert row["plain"] != row["lora"]
        assert row["difference"] == pytest.approx(row["lora"] - row["plain"])
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert "with LoRA" in capsys.readouterr().out


def test_no_lora_and_ranks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["lora-gain", *CHOSEN, "--results", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(arguments)
    assert "no LoRA is named" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--steps", "2"])
    assert "add --pictures" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--drawn", "pocket"])
    assert "add --pictures" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--lora", a_lora(tmp_path / "lora", 0.0), "--pictures", "2"])
    assert "pictures of 2 captions do not suffice" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        main(arguments)
    assert "segscale lora-gain" in capsys.readouterr().err
