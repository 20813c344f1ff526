from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from segscale.backbones.build import build_shape_only
from segscale.bench.commands.main import main
from segscale.bench.generation.choices import Networks, SamplingChoices
from segscale.bench.generation.power_record import find_power
from segscale.bench.generation.settings import sampling_settings
from segscale.bench.generation.strength_tables import strengths_text
from segscale.bench.generation.strengths import PowerQuestion, measure_blurred_blocks
from segscale.bench.runs.options import RunOptions
from segscale.errors import UserError


def test_every_choice_shows_in_the_name_of_a_result() -> None:
    chosen: dict[str, object] = {
        "steps": 5,
        "guidance": 7.5,
        "size": 128,
        "guidance_method": "perturbed",
        "guidance_reading": "described",
        "guidance_site": "vit-block3",
        "guidance_width": 0.1,
        "shared_noise": True,
    }
    assert chosen.keys() == {field.name for field in fields(SamplingChoices)}
    parts = [SamplingChoices(**{name: value}).name_parts for name, value in chosen.items()]  # type: ignore[arg-type]
    assert len({SamplingChoices().name_parts, *parts}) == len(chosen) + 1
    assert parts[1] == ("guidance7.5",)
    named = [Networks(Path("a.pt")), Networks(clip="x/b"), Networks(Path("a.pt"), "x/b")]
    assert [each.name_parts for each in named] == [("a",), ("b",), ("a", "b")]


def test_what_cannot_be_drawn_is_refused_before_anything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["guidance", "pocket-sd15", "--methods", "cfg,s-cfg", "--scales", "1,3", "--results", str(tmp_path)])
    assert "s-cfg does nothing at a guidance of 1; name a scale above 1" in capsys.readouterr().err
    lora = ["lora-gain", "pocket-sd3", "--lora", "there", "--pictures", "4", "--clip", "x", "--results", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(lora)
    assert "nothing reads --inception and --clip" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_the_command_measures_every_method_at_every_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--methods", "goca-s-cfg,cfg", "--scales", "5,2", "--steps", "2", "--limit", "3", "--batch", "3"]
    main(["guidance", "pocket-sd15", *chosen, "--results", str(tmp_path)])
    printed = capsys.readouterr().out
    written = tmp_path / "analysis" / "pocket-sd15-pocket-captions-guidance-cfg+goca-s-cfg-2+5-steps2-first3.csv"
    table: Any = pd.read_csv(written)
    assert written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    f1 = table.query("measure == 'f1'")
    assert list(zip(f1["scale"], f1["method"], strict=True)) == [(s, m) for s in (2, 5) for m in ("goca-s-cfg", "cfg")]
    stored = {each.record.plan_id: each.record for each in find_power(tmp_path)}
    for row in f1.to_dict("records"):
        record = stored[str(row["plan"])]
        settings = record.plan.settings
        assert (settings.guidance_method, settings.guidance) == (row["method"], row["scale"])
        assert row["value"] == pytest.approx(100 * record.measures["f1"].value)
    plain = table.set_index(["scale", "method", "measure"])["value"]
    for row in table.query("method == 'goca-s-cfg'").to_dict("records"):
        assert row["difference"] == pytest.approx(row["value"] - plain[row["scale"], "cfg", row["measure"]])
    assert all(table.query("method == 'cfg'")["difference"].isna())
    for measure in ("f1", "recall", "precision", "frechet"):
        assert re.search(rf"\| {measure} less cfg +\| goca-s-cfg \|", printed)
    assert strengths_text(table) in printed


def test_without_plain_guidance_methods_are_set_against_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--methods", "goca-s-cfg,s-cfg", "--scales", "5", "--steps", "2", "--limit", "3", "--batch", "3"]
    main(["guidance", "pocket-sd15", *chosen, "--results", str(tmp_path)])
    (written,) = (tmp_path / "analysis").glob("*.csv")
    table = pd.read_csv(written).query("measure == 'f1'").set_index("method")
    assert {*table["reference"]} == {"s-cfg"}
    assert pd.isna(table.loc["s-cfg", "difference"])
    difference = table.loc["goca-s-cfg", "value"] - table.loc["s-cfg", "value"]
    assert table.loc["goca-s-cfg", "difference"] == pytest.approx(difference)
    assert re.search(r"\| f1 less s-cfg +\| goca-s-cfg \|", capsys.readouterr().out)


def test_other_ranks_draw_but_do_not_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["pocket-sd15", "--methods", "cfg", "--scales", "3,2", "--steps", "2", "--limit", "3", "--batch", "3"]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    main(["guidance", *chosen, "--results", str(tmp_path)])
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").rglob("*.png")}
    assert (len(drawn), [*find_power(tmp_path)], capsys.readouterr().out) == (6, [], "")
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    main(["guidance", *chosen, "--results", str(tmp_path)])
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    assert len([*find_power(tmp_path)]) == 2


def test_blurred_blocks_are_measured_beside_the_whole_model(tmp_path: Path) -> None:
    options = RunOptions(limit=3, results=tmp_path, batch=3)
    choices = SamplingChoices(steps=2, guidance_width=float("inf"))
    question = PowerQuestion("pocket-sd3", "pocket-captions", choices, Networks(), options)
    site = build_shape_only("pocket-sd3").sites(64)[4]
    rows: Any = measure_blurred_blocks(question, [site])
    f1 = rows[rows["measure"] == "f1"].iloc[0]
    assert (f1["layer"], f1["site"]) == (4, "vit-block4")
    plain, blurred = sorted(
        (each.record for each in find_power(tmp_path)), key=lambda r: r.plan.settings.guidance_method == "blurred-block"
    )
    assert blurred.plan.settings == replace(
        plain.plan.settings, guidance_method="blurred-block", site="vit-block4", width=None
    )
    assert f1["difference"] == pytest.approx(100 * (blurred.measures["f1"].value - plain.measures["f1"].value))


def test_plain_pictures_are_shared_by_what_only_other_methods_read() -> None:
    chosen = SamplingChoices(guidance_method="s-cfg", guidance_reading="described", guidance_width=0.2)
    plain = sampling_settings("pocket-sd15", chosen.guided_by("cfg"))
    assert plain == sampling_settings("pocket-sd15", SamplingChoices())
    assert sampling_settings("pocket-sd15", chosen.guided_by("s-cfg")).reading == "described"
    assert sampling_settings("pocket-sd15", chosen.guided_by("perturbed")).width == 0.2
    with pytest.raises(
        UserError, match="s-cfg does not read --guidance-width; leave it out, or take a method that does: perturbed"
    ):
        sampling_settings("pocket-sd15", chosen)
