from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segscale.bench.commands.main import main
from segscale.bench.generation import measure_ladder, train_judge
from segscale.bench.generation.choices import Networks, SamplingChoices
from segscale.bench.generation.fidelity import named_objects
from segscale.bench.generation.judge import Judge, areas_seen
from segscale.bench.generation.judge_files import WEIGHTS
from segscale.bench.generation.judge_network import CLASSES, JudgeNetwork
from segscale.bench.generation.power import DrawnCaptions, draw_to_measure
from segscale.bench.generation.power_record import find_power
from segscale.bench.generation.prompts import PicturePrompt
from segscale.bench.generation.settings import sampling_settings
from segscale.bench.generation.strengths import PowerQuestion
from segscale.bench.generation.twin_measures import twin_measures
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.runs.options import RunOptions
from segscale.datasets.pocket import GROUNDS, OBJECTS, make_scene
from segscale.errors import UserError

SCENES = [make_scene(9, "val", index) for index in range(60)]
PICTURES = [Image.fromarray(scene.image) for scene in SCENES]
PROMPTS = [PicturePrompt(str(index), scene.caption) for index, scene in enumerate(SCENES)]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def test_the_judge_sees_what_real_scenes_show(judge: Judge) -> None:
    seen = judge.see(PICTURES)
    named = named_objects(prompt.text for prompt in PROMPTS)
    assert (named & seen.objects).sum() / named.sum() > 0.97
    assert (named & seen.objects).sum() / seen.objects.sum() > 0.97
    assert [GROUNDS[index] for index in seen.ground] == [scene.ground for scene in SCENES]
    assert seen.features.shape == (60, 64)


def test_what_it_sees_of_a_picture_depends_on_no_other_and_little_on_its_size(judge: Judge) -> None:
    together, alone = judge.see(PICTURES[:5]), judge.see(PICTURES[3:4])
    np.testing.assert_array_equal(together.objects[3:4], alone.objects)
    np.testing.assert_allclose(together.features[3:4], alone.features, atol=1e-5)
    larger = judge.see([picture.resize((128, 128)) for picture in PICTURES[:20]])
    assert (larger.objects != judge.see(PICTURES[:20]).objects).mean() < 0.02


def test_few_pixels_are_no_object() -> None:
    logits = torch.zeros(1, CLASSES, 64, 64)
    logits[:, len(OBJECTS) + 2] = 1
    logits[0, 4].flatten()[:50] = 2
    logits[0, 5].flatten()[50:99] = 2
    objects, ground = areas_seen(logits)
    assert np.flatnonzero(objects[0]).tolist() == [4]
    assert ground.tolist() == [2]


def test_real_scenes_follow_their_captions_and_shuffled_ones_do_not(judge: Judge) -> None:
    measures, rows = twin_measures(judge, PROMPTS, PICTURES, PICTURES)
    assert measures["f1"].value > 0.97
    ground = measures["ground"]
    assert (ground.value, ground.low, ground.high) == (1, pytest.approx(0.939828, abs=1e-6), 1)  # Wilson's, 60 of 60
    assert measures["frechet"].value == measures["frechet"].floor
    assert rows["hits"].sum() / rows["named"].sum() == measures["recall"].value
    shuffled, _ = twin_measures(judge, PROMPTS[1:] + PROMPTS[:1], PICTURES, PICTURES)
    assert shuffled["f1"].value == pytest.approx(measures["f1"].by_chance, abs=0.1)
    assert shuffled["frechet"].value == measures["frechet"].value


def test_the_judge_scores_on_held_out_scenes_what_is_stated() -> None:
    stated = json.loads(WEIGHTS.with_suffix(".json").read_text())
    network = JudgeNetwork()
    tensors = load_file(WEIGHTS)
    network.load_state_dict({name: tensors[name].float() for name in network.state_dict()})
    facts = train_judge.measure(network.eval(), train_judge.shared_vae(), count=64)
    for kind in ("drawn", "decoded"):
        assert facts[f"{kind}_miou"] == pytest.approx(stated[f"{kind}_miou"], abs=4)
        assert stated[f"{kind}_miou"] > 90
    assert sum(parameter.numel() for parameter in network.parameters()) < 1e5


def test_a_judge_is_made_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BATCH", 4), ("HELD_OUT", 8), ("REFERENCE", 80)):
        monkeypatch.setattr(train_judge, name, value)
    path = tmp_path / "judge.safetensors"
    monkeypatch.setattr(sys, "argv", ["train_judge", "--steps", "2", "--output", str(path)])
    train_judge.main()
    assert load_file(path).keys() == load_file(WEIGHTS).keys()
    assert (
        json.loads(path.with_suffix(".json").read_text()).keys()
        == json.loads(WEIGHTS.with_suffix(".json").read_text()).keys()
    )


def test_the_command_measures_stores_and_measures_no_picture_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["power", "pocket-sd15", "--steps", "2", "--limit", "6", "--batch", "6", "--results", str(tmp_path)]
    main(arguments)
    assert "recall" in capsys.readouterr().out
    (stored,) = find_power(tmp_path)
    assert stored.record.images == 6
    assert set(stored.record.measures) == {"recall", "precision", "f1", "ground", "frechet"}
    assert len(stored.pictures) == 6
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    main(arguments)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}


def test_one_rank_measures_what_all_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["power", "pocket-sd15", "--steps", "1", "--limit", "4", "--batch", "4", "--results", str(tmp_path)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with monkeypatch.context() as patched:
        patched.setattr(DrawnCaptions, "measured", lambda *_: pytest.fail("measured"))
        main(arguments)
    assert (capsys.readouterr().out, len(list(tmp_path.rglob("*.png"))), find_power(tmp_path)) == ("", 4, [])
    monkeypatch.setenv("RANK", "0")
    main(arguments)
    (stored,) = find_power(tmp_path)
    assert (stored.record.images, (stored.record.parameters or 0) > 1e6) == (4, True)


def test_real_images_need_a_network_and_numbers_need_pictures(tmp_path: Path) -> None:
    settings = sampling_settings("pocket-sd15", SamplingChoices(steps=1))
    with pytest.raises(UserError, match="without a network"):
        draw_to_measure("pocket-sd15", "voc", settings, Networks(), RunOptions(results=tmp_path))
    for networks in (Networks(clip="there"), Networks(inception=tmp_path / "file.pt")):
        with pytest.raises(UserError, match="nothing reads --inception and --clip; leave them out"):
            draw_to_measure("pocket-sd15", "pocket", settings, networks, RunOptions(results=tmp_path, limit=4))
    # Without one of two pictures there is no covariance.
    with pytest.raises(UserError, match="2 captions do not suffice, 3 are needed"):
        draw_to_measure("pocket-sd15", "pocket", settings, Networks(), RunOptions(results=tmp_path, limit=2))


def test_rungs_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_ladder, "rung_names", lambda _: iter(["pocket-sd15"]))
    arguments = ["--pictures", "4", "--images", "2", "--method", "vanilla", "--results", str(tmp_path)]
    main(["power", "pocket-sd15", "--steps", "1", "--limit", "4", "--batch", "4", "--results", str(tmp_path)])
    monkeypatch.setattr(sys, "argv", ["measure_ladder", *arguments])
    measure_ladder.main()
    monkeypatch.setattr(measure_ladder, "PowerQuestion", None)
    measure_ladder.main()
    (run,), powers = evaluate_runs(tmp_path), find_power(tmp_path)
    # What was measured at other settings does not stand for the rung.
    assert sorted(power.record.plan.settings.steps for power in powers) == [1, 20]
    assert {power.record.plan.backbone == run.plan.backbone for power in powers} == {True}


@pytest.mark.parametrize("name", ["sd15", "flux", "pixart-sigma-512"])
def test_the_judge_is_not_asked_about_what_it_does_not_know(name: str, tmp_path: Path) -> None:
    question = PowerQuestion(name, "pocket-captions", SamplingChoices(), Networks(), RunOptions(results=tmp_path))
    with pytest.raises(UserError, match=r"knows generated scenes, not pictures of (512|1024) pixels"):
        question.check(SamplingChoices())
