"""Training of generators of masks: what a step learns from, resuming, ablations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscale.backbones.build import build_backbone
from segscale.backbones.latents.pictures import latents_of, white_on_black
from segscale.backbones.loading.autoencoder import load_autoencoder
from segscale.backbones.loading.pretrained import reinitialise
from segscale.backbones.wan import WanMasks
from segscale.bench.commands.main import main
from segscale.bench.generation.judge import Judge
from segscale.bench.training.direct_mask_ablations import (
    VARIANTS,
    Ablation,
    Outcome,
    known_variants,
    read_outcome,
)
from segscale.bench.training.direct_mask_drawing import areas_by_scene, drawn_masks, picture_losses, picture_objects
from segscale.bench.training.direct_mask_scenes import MaskScenes, PromptedMasks, grey_of
from segscale.bench.training.direct_mask_table import ablation_table
from segscale.bench.training.direct_mask_twin import untrained_twin
from segscale.bench.training.direct_masks import MaskRecipe, MaskTrainer, grey_cross_entropy
from segscale.bench.training.timestep_laws import LogitNormal
from segscale.datasets.pocket import make_scene
from segscale.errors import UserError

SHORT = MaskRecipe(steps=3, batch=4)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> WanMasks:
    return untrained_twin(load_autoencoder("pocket"), tmp_path_factory.mktemp("twin") / "pocket-genmask")


@pytest.fixture(scope="module")
def scenes(twin: WanMasks) -> MaskScenes:
    return MaskScenes(twin.vae, "val", 5, 3)


def trained(
    twin: WanMasks, scenes: MaskScenes, recipe: MaskRecipe, kept: Path | None = None
) -> dict[str, torch.Tensor]:
    reinitialise(twin.denoiser)
    return MaskTrainer(twin, scenes, recipe).train(kept).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_masks_survive_as_latents(twin: WanMasks, scenes: MaskScenes) -> None:
    asked = scenes.every_class()
    grey = grey_of(twin.vae, latents_of(twin.vae, white_on_black(torch.from_numpy(asked.masks))))
    areas = areas_by_scene(grey, asked)
    assert areas.intersection.sum() / (areas.predicted_area + areas.label_area - areas.intersection).sum() > 0.95


def test_prompts_mean_their_masks(scenes: MaskScenes) -> None:
    drawn = scenes.prompted(200, np.random.default_rng(0))
    empty = ~drawn.masks.any((1, 2))
    relations = np.array([len(text.split()) == 3 for text in drawn.texts])
    assert 0.04 < empty.mean() < 0.2
    assert 0.2 < relations.mean() < 0.45
    assert not (empty & relations).any()
    every = scenes.every_class()
    assert every.texts == [f"a {name}" for index in range(5) for name in make_scene(0, "val", index).objects]
    assert every.scenes == tuple(index for index in range(5) for _ in make_scene(0, "val", index).objects)
    assert every.masks.any((1, 2)).all()


def test_equal_seeds_train_equally_and_an_interrupted_training_goes_on(
    twin: WanMasks, scenes: MaskScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(twin, scenes, SHORT)
    assert same(whole, trained(twin, scenes, SHORT))
    assert not same(whole, trained(twin, scenes, replace(SHORT, seed=1)))
    monkeypatch.setattr("segscale.bench.training.direct_masks.KEPT_EVERY", 1)
    step = MaskTrainer._step

    def interrupted(self: MaskTrainer, number: int) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number)

    with monkeypatch.context() as patched:
        patched.setattr(MaskTrainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(twin, scenes, SHORT, tmp_path / "kept.pt")
    assert same(whole, trained(twin, scenes, SHORT, tmp_path / "kept.pt"))
    (tmp_path / "kept.pt").write_bytes((tmp_path / "kept.pt").read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"kept\.pt is damaged; to begin anew: rm .*kept\.pt"):
        trained(twin, scenes, SHORT, tmp_path / "kept.pt")


def test_the_state_of_another_training_is_refused(
    twin: WanMasks, scenes: MaskScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segscale.bench.training.direct_masks.KEPT_EVERY", 1)
    kept, once = tmp_path / "kept.pt", replace(SHORT, steps=1)
    trained(twin, scenes, once, kept)
    for other, differs in (
        (replace(once, masks=LogitNormal(), steps=2), "masks, steps"),
        (replace(once, learning_rate=1e-3), "learning_rate"),
    ):
        with pytest.raises(UserError, match=rf"another training \({differs} differ\); to begin anew: rm .*kept\.pt"):
            trained(twin, scenes, other, kept)
    with pytest.raises(UserError, match=r"\(plain_scenes differ\)"):
        trained(twin, MaskScenes(twin.vae, "val", 2, 3), once, kept)
    reinitialise(twin.denoiser, 1)
    with pytest.raises(UserError, match=r"\(initial_weights differ\)"):
        MaskTrainer(twin, scenes, once).train(kept)
    trained(twin, scenes, once, kept)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_otherwise(variant: str, twin: WanMasks, scenes: MaskScenes) -> None:
    recipe = replace(VARIANTS[variant], steps=1, batch=4)
    own = trained(twin, scenes, recipe)
    assert all(tensor.isfinite().all() for tensor in own.values())
    assert same(own, trained(twin, scenes, replace(MaskRecipe(), steps=1, batch=4))) is (variant == "a=0.05")


def test_a_few_steps_lower_the_loss_of_masks(twin: WanMasks, scenes: MaskScenes) -> None:
    reinitialise(twin.denoiser)
    trainer = MaskTrainer(twin, scenes, MaskRecipe(steps=24, batch=4, learning_rate=5e-3))
    losses = [trainer._step(step) for step in range(1, 25)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_cross_entropy_is_small_for_the_right_mask_alone(twin: WanMasks, scenes: MaskScenes) -> None:
    masks = scenes.every_class().masks
    clean = latents_of(twin.vae, white_on_black(torch.from_numpy(masks)))
    right, wrong = grey_cross_entropy(twin, clean, masks), grey_cross_entropy(twin, clean, ~masks)
    assert right < 0.1 < 2 < wrong


def test_one_step_is_the_prediction_and_more_steps_go_on_from_there(twin: WanMasks, scenes: MaskScenes) -> None:
    asked = scenes.every_class()
    with torch.no_grad():
        one, two = (drawn_masks(twin, asked, steps) for steps in (1, 2))
    assert one.shape == two.shape == (len(asked.texts), 64, 64)
    assert not torch.allclose(one, two)
    first = PromptedMasks(asked.pictures[:1], asked.texts[:1], asked.masks[:1], asked.scenes[:1])
    torch.testing.assert_close(drawn_masks(twin, first)[0], one[0], atol=1e-4, rtol=0)


def test_areas_add_up_by_scene() -> None:
    masks = np.zeros((3, 64, 64), np.bool_)
    masks[0, 0, :10] = masks[1, 1, :20] = masks[2, 2, :5] = True
    drawn = torch.zeros(3, 64, 64)
    drawn[0, 0, 5:10] = drawn[1, 1, :30] = 0.9
    areas = areas_by_scene(drawn, PromptedMasks(torch.empty(3, 4, 16, 16), ["", "", ""], masks, (4, 4, 7)))
    assert areas.intersection[:, 0].tolist() == [25, 0]
    assert areas.predicted_area[:, 0].tolist() == [35, 0]
    assert areas.label_area[:, 0].tolist() == [30, 5]


def test_picture_losses_do_not_depend_on_other_scenes(twin: WanMasks, scenes: MaskScenes) -> None:
    few = MaskScenes(twin.vae, "val", 2, 0)
    np.testing.assert_allclose(picture_losses(twin, scenes)[:2], picture_losses(twin, few), rtol=1e-3)


def test_captions_are_followed_by_what_the_judge_sees(
    twin: WanMasks, scenes: MaskScenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [make_scene(0, "val", index) for index in range(5)]
    pictures = iter([*shown[:4], shown[0]])
    monkeypatch.setattr(
        "segscale.bench.training.direct_mask_drawing.draw",
        lambda _, batch, *__: [Image.fromarray(next(pictures).image) for _ in batch],
    )
    objects = [set(scene.objects) for scene in shown]
    seen = [*objects[:4], objects[0]]
    expected = tuple((len(a & b), len(a), len(b)) for a, b in zip(objects, seen, strict=True))
    assert picture_objects(twin, scenes, Judge()) == expected


def test_an_ablation_keeps_its_outcomes(twin: WanMasks, scenes: MaskScenes, tmp_path: Path) -> None:
    ablation = Ablation(twin, scenes, scenes, 1, tmp_path)
    variants = ("a=0.05", "no-generation")
    made = [*ablation.run([0], variants)]
    assert [(outcome.variant, outcome.seed) for outcome in made] == [(variant, 0) for variant in variants]
    assert len(list(tmp_path.iterdir())) == 2
    # What is there is read, not made again.
    assert [*Ablation(twin, scenes, scenes, 1, tmp_path).run([0], variants)] == made
    other = Judge()
    other.id = "another"
    with pytest.raises(UserError, match=r"seed0\.json was made otherwise \(judge differ\); remove it"):
        next(Ablation(twin, scenes, scenes, 1, tmp_path, other).run([0], variants))
    path = tmp_path / "a=0.05-steps1-seed0.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="is damaged or of another version"):
        read_outcome(path)


def test_the_table_has_the_ciou_of_all_seeds_and_the_ends_of_each() -> None:
    rows = {0: (50, 50, 100), 1: (100, 100, 100)}
    objects = {0: (1, 2, 2), 1: (2, 2, 4)}
    outcomes = [
        Outcome("a=0.1", seed, 9, (rows[seed],) * 6, (rows[1],) * 6, (objects[seed],) * 6, (0.5 + seed,) * 6, {})
        for seed in (0, 1)
    ]
    table = ablation_table(outcomes).set_index("measure")
    assert table["variant"].unique().tolist() == ["a=0.1"]
    one = table.loc["cIoU, one step"]
    assert (one["mean"], one["lowest"], one["highest"]) == (75, 50, 100)
    # Scenes are alike; leaving a seed out gives 100 or 50, so the error is 25, and Student's t of two 12.7.
    assert (one["low"], one["high"]) == (0, 100)
    ten = table.loc["cIoU, ten steps"]
    assert (ten["mean"], ten["lowest"], ten["highest"]) == (100, 100, 100)
    assert table.loc["loss of pictures", "mean"] == 1
    f1 = table.loc["F1 of pictures"]
    assert (f1["mean"], f1["lowest"], f1["highest"]) == pytest.approx((60, 50, 200 / 3))
    assert (one["seeds"], one["images"], one["steps"]) == (2, 6, 9)


def test_the_shipped_twin_keeps_what_its_page_says_of_200_held_out_scenes() -> None:
    backbone = build_backbone("pocket-genmask")
    assert isinstance(backbone, WanMasks)
    asked = MaskScenes(backbone.vae, "val", 200, 0).every_class()
    areas = areas_by_scene(drawn_masks(backbone, asked), asked)
    hit, drawn, true = (part.sum() for part in (areas.intersection, areas.predicted_area, areas.label_area))
    assert 100 * hit / (drawn + true - hit) == pytest.approx(89.4, abs=0.1)


def outcome(variant: str, seed: int, intersections: list[int]) -> Outcome:
    rows = tuple((hit, 60, 100) for hit in intersections)
    return Outcome(variant, seed, 9, rows, rows, ((1, 2, 2),) * len(rows), (0.5,) * len(rows), {})


def test_seeds_that_differ_widen_the_interval() -> None:
    scenes = [40, 45, 50, 55, 60]
    one = ablation_table([outcome("a=0.05", 0, scenes)]).set_index("measure").loc["cIoU, one step"]
    alike = ablation_table([outcome("a=0.05", seed, scenes) for seed in range(3)])
    apart = ablation_table([outcome("a=0.05", seed, [hit - 10 * seed for hit in scenes]) for seed in range(3)])
    alike, apart = (table.set_index("measure").loc["cIoU, one step"] for table in (alike, apart))
    assert (alike["low"], alike["high"]) == pytest.approx((one["low"], one["high"]))
    assert apart["high"] - apart["low"] > 1.5 * (alike["high"] - alike["low"])
    # Half widths over scenes and over seeds, whose squares add up.
    seeds = [[hit - 10 * seed for hit in scenes] for seed in range(3)]
    value, t = ciou(np.mean(seeds, 0)), {3: 4.3027, 5: 2.7764}
    without = {5: [ciou(np.delete(np.mean(seeds, 0), place)) for place in range(5)]}
    without[3] = [ciou(np.mean(np.delete(seeds, place, 0), 0)) for place in range(3)]
    errors = [t[n] * np.sqrt((n - 1) * np.var(left_out)) for n, left_out in without.items()]
    assert apart["mean"] - apart["low"] == pytest.approx(100 * np.hypot(*errors), rel=1e-3)
    assert apart["mean"] == pytest.approx(100 * value)


def ciou(hits: np.ndarray) -> float:
    return float(hits.sum() / (160 * len(hits) - hits.sum()))


def test_differences_are_paired_by_seed_and_scene() -> None:
    scenes = [40, 45, 50, 55, 60]
    outcomes = [outcome("a=0.05", seed, scenes) for seed in (0, 1)]
    worse = [outcome("a=0.5", seed, [hit - 10 for hit in scenes]) for seed in (0, 1, 2)]
    table = ablation_table([*worse, *outcomes]).set_index(["variant", "measure"])
    assert table.index.get_level_values(0).unique().tolist() == ["a=0.05", "a=0.5"]
    assert np.isnan(table.loc[("a=0.05", "cIoU, one step"), "difference"])
    row = table.loc[("a=0.5", "cIoU, one step")]
    assert row["difference"] == pytest.approx(row["mean"] - table.loc[("a=0.05", "cIoU, one step"), "mean"])
    assert row["difference_low"] < row["difference"] < row["difference_high"] < 0
    assert row["difference_high"] - row["difference_low"] < (row["high"] - row["low"]) / 3
    assert table.loc[("a=0.5", "F1 of pictures"), "difference"] == 0


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UserError, match=r"no variant 'a=2'.*there are: a=0\.05"):
        known_variants(["a=2"])


def test_the_commands_train_a_twin_and_ablate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (("PLAIN_SCENES", 4), ("PAIR_SCENES", 2)):
        monkeypatch.setattr(f"segscale.bench.training.direct_mask_twin.{name}", number)
    main(["genmask", "train", "--folder", str(tmp_path), "--steps", "1"])
    assert capsys.readouterr().out == f"wrote {tmp_path}/pocket-genmask\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pocket-genmask"]
    arguments = ["genmask", "ablate", "--steps", "1", "--seeds", "1", "--limit", "6", "--scenes", "4"]
    main([*arguments, "--variants", "a=0.5", "--results", str(tmp_path)])
    text = capsys.readouterr().out
    assert "| a=0.5" in text
    assert "cIoU, ten steps" in text
    assert (tmp_path / "genmask/ablations-scenes4-steps1-seeds1-first6.csv").exists()
