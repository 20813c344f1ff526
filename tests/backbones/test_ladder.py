from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from segscale.backbones.build import build_backbone
from segscale.backbones.pocket import climb
from segscale.backbones.pocket.architectures import TWINS
from segscale.backbones.pocket.ladder import RUNGS, SEEDS, TOP, Rung, config_text, rung_of
from segscale.backbones.pocket.recipe import Recipe
from segscale.backbones.pocket.train import encode_scenes, training_batches, training_caption
from segscale.bench.commands.main import main
from segscale.bench.generation import measure_ladder
from segscale.bench.generation.measure_ladder import rung_names
from segscale.bench.generation.scaling_files import FILE_ENDING, MEASURED
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import plan_backbone
from segscale.catalogue import config_file, config_files, unlisted_files
from segscale.datasets.generated import TRAIN_SCENES
from segscale.datasets.pocket import GROUNDS, OBJECTS, make_scene
from segscale.methods.build import build_method, method_defaults


def test_a_rung_differs_from_the_common_one_in_one_thing() -> None:
    common = {family: Rung(family) for family in ("sd15", "sd3")}
    for rung in RUNGS.values():
        differing = [
            name
            for name in ("steps", "width", "depth", "caption_noise", "scenes")
            if getattr(rung, name) != getattr(common[rung.family], name)
        ]
        assert len(differing) <= 1
        assert differing in ([], [rung.varied.replace(" ", "_")])
    every = [*RUNGS.values(), TOP["pocket-sd15"]]
    seeds = Counter(replace(rung, seed=0) for rung in every)
    assert {*seeds.values()} == {len(SEEDS)}
    assert len(every) == len({*every})


def test_rungs_are_not_among_the_listed_backbones() -> None:
    assert not RUNGS.keys() & config_files("backbone").keys()


def test_noise_replaces_words_by_others_of_their_kind() -> None:
    scene, rng = make_scene(0, "train", 1), np.random.default_rng(0)
    captions = [training_caption(scene, rng, noise=1.0) for _ in range(200)]
    words = {word for caption in captions for word in caption.replace(",", "").split() if word != "a"}
    assert words == {*OBJECTS, *GROUNDS}
    assert all(sum(word in caption for word in GROUNDS) == 1 for caption in captions if caption)


@pytest.mark.parametrize(
    "rung",
    [Rung("sd15", 2, width=0.5), Rung("sd3", 2, depth=4)],
    ids=lambda rung: rung.name,
)
def test_a_trained_rung_is_a_backbone_of_its_size(rung: Rung, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscale.backbones.pocket.train.BATCH", 2)
    monkeypatch.setattr(climb, "TRAIN_SCENES", 100)
    climb.climb([rung], tmp_path)
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path / "configs"))
    backbone = build_backbone(rung.name)
    twin = build_backbone(f"pocket-{rung.family}")
    sizes = [sum(p.numel() for p in each.denoiser.parameters()) for each in (backbone, twin)]
    assert sizes[0] < sizes[1]
    names = {site.name for site in backbone.sites(64)}
    defaults = method_defaults(rung.name)
    assert {defaults.reference_site, *defaults.affinity_sites} <= names
    assert build_method("baseline", rung.name).request(backbone.sites(64)).sites <= names
    identity = plan_backbone(rung.name, RunOptions()).identity
    assert identity.packaged
    assert identity.weights == plan_backbone(twin.name, RunOptions()).identity.weights
    assert len(str(identity.options["denoiser_weights"])) == 16
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    climb.climb([rung], tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_what_the_tables_have_is_neither_trained_nor_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*RUNGS]
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path / "configs"))
    trained: list[str] = []
    monkeypatch.setattr(climb, "climb", lambda rungs, folder: trained.extend(rung.name for rung in rungs))
    carried = [name for name in (*TOP, *RUNGS) if name in config_files("backbone") | unlisted_files("backbone")]
    assert [*rung_names(tmp_path)] == carried
    pd.DataFrame({"backbone": [*carried, *names[:-2]]}).to_parquet(tmp_path / f"{MEASURED}{FILE_ENDING}")
    monkeypatch.setattr("sys.argv", ["climb", "--folder", str(tmp_path)])
    climb.main()
    assert trained == names[-2:]
    assert [*rung_names(tmp_path)] == []
    for rung in (RUNGS[carried[-1]], RUNGS[names[5]]):
        climb.write_config(rung, tmp_path)
    assert {*rung_names(tmp_path)} == {carried[-1], names[5]}


@pytest.mark.parametrize(("command", "option"), [(climb, "--folder"), (measure_ladder, "--results")])
def test_damaged_tables_are_told_in_one_line(
    command: ModuleType,
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / f"{MEASURED}{FILE_ENDING}").write_bytes(b"PAR1 no more")
    monkeypatch.setattr("sys.argv", ["ladder", option, str(tmp_path)])
    with pytest.raises(SystemExit):
        command.main()
    assert f"{MEASURED}{FILE_ENDING} is damaged" in capsys.readouterr().err.splitlines()[-1]


def test_fewer_scenes_are_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone("pocket-sd15")
    latents, scenes = encode_scenes(backbone.vae, 100, 64)
    batches = list(training_batches(backbone, latents, scenes, Recipe(3, scenes=2)))
    assert [len(clean) for clean, _ in batches] == [32] * 3
    assert all(any(torch.equal(row, latents[i]) for i in range(2)) for clean, _ in batches for row in clean)
    assert Recipe(1).scenes == TRAIN_SCENES


def test_carried_rungs_are_used_by_name_and_listed_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    carried = unlisted_files("backbone")
    assert carried
    assert carried.keys() <= RUNGS.keys()
    for name, path in carried.items():
        assert path.read_text() == config_text(RUNGS[name], f"pocket:rungs/{name}")
        assert config_file("backbone", name) == path
    main(["list"])
    plain = capsys.readouterr().out
    main(["list", "--rungs"])
    asked = capsys.readouterr().out
    assert not any(name in plain for name in carried)
    assert all(name in asked for name in carried)


def test_the_tops_of_the_ladders_are_the_shipped_twins() -> None:
    for name, rung in TOP.items():
        assert rung.steps == TWINS[name].steps
        assert rung_of(name) == rung
    assert rung_of("pocket-flux") is None
