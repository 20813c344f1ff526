from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscale.bench.commands.main import main
from segscale.bench.generation import contact_sheet
from segscale.bench.generation import pictures as module
from segscale.bench.generation.choices import SamplingChoices
from segscale.bench.generation.pictures import PictureFolder, draw_pictures
from segscale.bench.generation.prompts import PicturePrompt, PromptList, captions_of_dataset, prompts_of_file
from segscale.bench.generation.record import read_record
from segscale.bench.generation.settings import sampling_settings
from segscale.bench.runs.leases import HeldLease
from segscale.bench.runs.options import RunOptions
from segscale.errors import StoreError, UserError

SETTINGS = sampling_settings("pocket-sd15", SamplingChoices(steps=2))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Ids of the prompts of every batch that is drawn."""
    noted: list[list[str]] = []
    draw = module.draw

    def noting(backbone, batch, *rest):  # type: ignore[no-untyped-def]
        noted.append([prompt.id for prompt in batch])
        return draw(backbone, batch, *rest)

    monkeypatch.setattr(module, "draw", noting)
    return noted


def test_a_second_command_draws_only_what_is_missing(tmp_path: Path, batches: list[list[str]]) -> None:
    options = RunOptions(results=tmp_path, limit=3, batch=2)
    prompts = captions_of_dataset("pocket", options)
    folder = draw_pictures("pocket-sd15", prompts, SETTINGS, options)
    ids = [prompt.id for prompt in prompts.prompts[:3]]
    assert [*chain(*batches)] == ids
    before = folder.path(ids[1]).read_bytes()
    folder.path(ids[1]).unlink()
    batches.clear()
    assert draw_pictures("pocket-sd15", prompts, SETTINGS, replace(options, limit=4)) == folder
    assert [*chain(*batches)] == [ids[1], prompts.prompts[3].id]
    again, first = (np.asarray(Image.open(path), int) for path in (folder.path(ids[1]), _written(tmp_path, before)))
    assert np.abs(again - first).max() <= 1
    # Fewer prompts than there are pictures leave the list as it is.
    draw_pictures("pocket-sd15", prompts, SETTINGS, replace(options, limit=2))
    with (folder.folder / "prompts.csv").open() as file:
        assert [(row["id"], row["prompt"]) for row in csv.DictReader(file)] == [
            (prompt.id, prompt.text) for prompt in prompts.prompts[:4]
        ]
    record = read_record(folder.folder)
    assert record.plan.settings == SETTINGS
    assert 1e6 < (record.parameters or 0) < 1.2e6
    other = draw_pictures("pocket-sd15", prompts, replace(SETTINGS, guidance=1.0), options)
    assert other.folder != folder.folder


@pytest.mark.parametrize("rank", ["0", "1"])
def test_pictures_that_another_process_draws_are_waited_for(
    rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = RunOptions(results=tmp_path, limit=3, batch=1)
    prompts = captions_of_dataset("pocket", options)
    folder = draw_pictures("pocket-sd15", prompts, SETTINGS, replace(options, limit=1))
    other, waited = HeldLease(tmp_path, [folder.folder.name]), list[float]()

    def drawn_meanwhile(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            folder.keep(prompts.prompts[2].id, Image.new("RGB", (64, 64), "red"))

    monkeypatch.setattr(module.time, "sleep", drawn_meanwhile)
    with other:
        assert other.claim([2], 1) == [2]
        draw_pictures("pocket-sd15", prompts, SETTINGS, options)
    assert len(waited) == 2
    assert not folder.missing(prompts.prompts[:3])
    with Image.open(folder.path(prompts.prompts[2].id)) as theirs:
        assert theirs.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.usefixtures("memory_for_three")
def test_on_a_device_with_its_own_memory_the_first_picture_says_how_many_fit(
    tmp_path: Path, batches: list[list[str]]
) -> None:
    options = RunOptions(results=tmp_path, limit=6)
    draw_pictures("pocket-sd15", captions_of_dataset("pocket", options), SETTINGS, options)
    assert [len(batch) for batch in batches] == [1, 3, 2]


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "before.png"
    path.write_bytes(content)
    return path


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    options = RunOptions(results=tmp_path, limit=1)
    prompts = PromptList("mine", (PicturePrompt("sub/one", "grass, a star"),))
    folder = draw_pictures("pocket-sd15", prompts, SETTINGS, options)
    assert folder.path("sub/one").is_file()
    path = folder.folder / "pictures.json"
    content = json.loads(path.read_text())
    content["plan"]["settings"]["guidance"] = 9.0
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="does not match its id"):
        read_record(folder.folder)
    path.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        read_record(folder.folder)


def test_an_id_outside_the_folder_is_refused(tmp_path: Path) -> None:
    prompts = PromptList("mine", (PicturePrompt("../one", "grass"),))
    with pytest.raises(UserError, match="names no file below"):
        draw_pictures("pocket-sd15", prompts, SETTINGS, RunOptions(results=tmp_path))


def test_lines_of_a_file_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a star on grass\n\n  a ring \n")
    assert prompts_of_file(path).prompts == (
        PicturePrompt("00001", "a star on grass"),
        PicturePrompt("00003", "a ring"),
    )
    path.write_text("a star\n", "utf-8-sig")
    assert prompts_of_file(path).prompts == (PicturePrompt("00001", "a star"),)
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no prompt"):
        prompts_of_file(path)
    with pytest.raises(UserError, match="cannot read"):
        prompts_of_file(tmp_path / "other.txt")


def test_the_command_says_where_pictures_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "pocket-sd15", "--steps", "1", "--limit", "2", "--batch", "2", "--results", str(tmp_path)])
    folder = Path(capsys.readouterr().out.removeprefix("wrote ").strip())
    assert len(list(folder.glob("*.png"))) == 2


def test_a_contact_sheet_shows_every_backbone_and_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def drawing(name: str, *rest: object) -> PictureFolder:
        drawn.append(name)
        folder = PictureFolder(tmp_path / name)
        for index in range(2):
            folder.keep(f"val-seed1-{index:05d}", Image.new("RGB", (64, 64), "green"))
        return folder

    monkeypatch.setattr(contact_sheet, "draw_pictures", drawing)
    path = tmp_path / "sheet.png"
    arguments = ["--backbone", "pocket-sd15,pocket-sd3", "--limit", "2", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", ["contact_sheet", *arguments])
    contact_sheet.main()
    assert drawn == ["pocket-sd15", "pocket-sd3"]
    width, height = Image.open(path).size
    assert width > height > 100
