from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from segscale.backbones.attention.chunks import AttentionCall
from segscale.backbones.attention.probe import AttentionProbe
from segscale.backbones.attention.scores import ScoreMeter, denoise_with_scores, text_columns
from segscale.backbones.attention.sites import Grid
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import DenoiserInput
from segscale.backbones.latents.noise import NoiseLevel, level_of_share
from segscale.backbones.loading.lora import LORA_FILE
from segscale.backbones.loading.options import LoadOptions
from segscale.bench.commands.main import main
from segscale.bench.evaluation.intervals import Interval
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.task import Task
from segscale.bench.training import align as loop
from segscale.bench.training import alignment
from segscale.bench.training.align import align, expert_site
from segscale.bench.training.alignment import rate_share
from segscale.bench.training.batches import BatchSource
from segscale.bench.training.checkpoint import STATE_FILE
from segscale.bench.training.matching import matched
from segscale.bench.training.objectives import dice_loss, focal_loss
from segscale.bench.training.settings import AlignmentSettings
from segscale.datasets.prompts.described import names_prompt
from segscale.errors import UserError
from segscale.files import replaced_bytes
from segscale.registry import build

from .cells import evaluated, run_named

pytest.importorskip("peft")

TINY = AlignmentSettings(rank=2, steps=3, images=2, learning_rate=1e-3, warm_up=1)
TRAIN = RunOptions(split="train")


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("pocket", build("protocol", "standard"), TRAIN)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone("pocket-sd3")


@pytest.mark.parametrize("raw", [False, True])
def test_the_focal_loss_is_its_formula(raw: bool) -> None:
    logits = torch.linspace(-2, 2, 8).view(2, 2, 2)
    masks = torch.tensor([1.0, 0, 0, 1, 0, 1, 0, 1]).view(2, 2, 2)
    total = 0.0
    for x, y in zip(logits.flatten().tolist(), masks.flatten().tolist(), strict=True):
        sigmoid = 1 / (1 + np.exp(-x))
        p = x if raw else sigmoid
        right = p if y else 1 - p
        entropy = -np.log(sigmoid if y else 1 - sigmoid)
        total += (0.25 if y else 0.75) * (1 - right) ** 2 * entropy
    assert float(focal_loss(logits, masks, raw)) == pytest.approx(total / 8)


def test_the_dice_loss_of_a_perfect_mask_is_almost_nothing() -> None:
    masks = torch.zeros(2, 4, 4)
    masks[:, :2] = 1
    assert float(dice_loss(40 * (2 * masks - 1), masks)) == pytest.approx(0, abs=1e-6)
    # 8 of 16 pixels, none of them hit: 1 - 1 / (8 + 8 + 1).
    assert float(dice_loss(-40 * (2 * masks - 1), masks)) == pytest.approx(1 - 1 / 17)


@pytest.mark.parametrize("name", ["pocket-sd3", "pocket-flux", "pocket-sd15"])
def test_scores_are_the_logits_that_the_softmax_sees(name: str) -> None:
    model = build_backbone(name)
    size = 128 if name == "pocket-flux" else 64
    site = next(site for site in model.sites(size) if site.text_module)
    assert site.text_module is not None
    conditioning = model.conditioning(["a star, grass"])
    side, channels = size // model.latent_stride, model.vae.config["latent_channels"]
    latent = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    columns = text_columns(model, site, conditioning.text_length)
    seen: list[Tensor] = []

    def softmaxed(call: AttentionCall) -> tuple[Tensor, Tensor]:
        output, scores = ScoreMeter(*columns)(call)
        logits = call.query @ call.key.transpose(2, 3) * call.query.shape[-1] ** -0.5
        seen.append(logits[:, :, columns[0], columns[1]])
        torch.testing.assert_close(ScoreMeter(*columns, mean=False)(call)[1], seen[0])
        return output, scores

    with torch.no_grad(), AttentionProbe(model.denoiser, {site.text_module: softmaxed}) as probe:
        model.denoise(latent, torch.tensor([300.0]), conditioning)
    torch.testing.assert_close(probe.observations[site.text_module], seen[0].mean(1, keepdim=True))
    assert seen[0].shape == (1, site.heads, site.grid.pixels, conditioning.text_length)
    _, scores = denoise_with_scores(model, site, DenoiserInput(latent, torch.tensor([300.0]), conditioning))
    torch.testing.assert_close(scores, probe.observations[site.text_module])


def test_words_by_token_are_found_wherever_the_token_stands(backbone: Backbone) -> None:
    prompt = names_prompt(["star", "ring", "star"], "token-id")
    columns = backbone.tokenize(prompt)[0].classes
    # The vocabulary has a token for each word; both mentions of a star are either's.
    assert columns[0] == columns[2]
    assert len(columns[0]) == 2
    assert len(columns[1]) == 1
    assert not {*columns[0]} & {*columns[1]}


def test_levels_are_those_of_the_schedule(backbone: Backbone) -> None:
    assert level_of_share(backbone.pipeline.scheduler, 0.25) == NoiseLevel(250.0, 0.75, 0.25)
    diffusion = build_backbone("pocket-sd15").pipeline.scheduler
    level = level_of_share(diffusion, 0.25)
    assert level.timestep == 250
    assert level.signal**2 == pytest.approx(float(diffusion.alphas_cumprod[250]))
    assert level.answers == "v_prediction"


@pytest.mark.parametrize("reading", ["published", "described"])
def test_a_batch_follows_from_its_step_and_masks_from_the_labels(reading: str, backbone: Backbone, task: Task) -> None:
    settings = AlignmentSettings(reading=reading, images=3)  # pyright: ignore[reportArgumentType]
    source = BatchSource(backbone, task, 64, Grid(64, 64), settings, images=50)
    source.draw(8)
    first, again, other = source.draw(7), source.draw(7), source.draw(9)
    assert torch.equal(first.noised, again.noised)
    assert first.texts == again.texts
    assert torch.equal(first.timesteps, again.timesteps)
    assert first.texts != other.texts
    labels = {np.isin(task.dataset[i].label, [c]).tobytes() for i in range(50) for c in range(1, 13)}
    assert first.masks
    for mask in first.masks:
        assert mask.mask.bool().numpy().tobytes() in labels
        assert mask.columns
    assert len({mask.row for mask in first.masks}) == 3
    grounds = ("grass", "sand", "water", "night")
    assert any(ground in text for text in first.texts for ground in grounds) == (reading == "described")


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    settings = AlignmentSettings(steps=10, warm_up=4)
    shares = [rate_share(step, settings) for step in range(11)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert shares[10] == pytest.approx(0)


def test_masks_without_names_are_those_of_all_labels_by_area(backbone: Backbone, task: Task) -> None:
    settings = AlignmentSettings(targets="matched", images=2)
    batch = BatchSource(backbone, task, 64, Grid(64, 64), settings, images=50).draw(3)
    for row in range(2):
        masks = [each.mask for each in batch.masks if each.row == row]
        areas = [float(mask.sum()) for mask in masks]
        assert areas == sorted(areas, reverse=True)
        assert torch.equal(torch.stack(masks).sum(0), torch.ones(64, 64))
    assert any(ground in batch.texts[0] for ground in ("grass", "sand", "water", "night"))


@pytest.mark.parametrize("raw", [False, True])
def test_the_matching_is_the_best_of_all(raw: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        logits = 8 * torch.randn(4, 12, generator=generator)
        masks = (torch.rand(2, 12, generator=generator) < 0.4).float()

        def cost(maps: tuple[int, ...], logits: Tensor = logits, masks: Tensor = masks) -> float:
            pairs = [(logits[i].view(1, 3, 4), mask.view(1, 3, 4)) for i, mask in zip(maps, masks, strict=True)]
            return sum(float(0.02 * focal_loss(*pair, raw) + dice_loss(*pair)) for pair in pairs)

        best = min(permutations(range(4), 2), key=cost)
        assert tuple(matched(logits, masks, raw)) == best


@pytest.mark.parametrize("targets", ["named", "matched"])
def test_alignment_lowers_its_loss(targets: str, task: Task, tmp_path: Path) -> None:
    settings = AlignmentSettings("described", targets, 4, 12, 4, 3e-3, warm_up=1)  # type: ignore[arg-type]
    losses = align("pocket-sd3", task, replace(settings, focal=1, dice=1), tmp_path, replace(TRAIN, limit=4))
    masks = losses["focal"] + losses["dice"]
    assert masks.tail(3).mean() < masks.head(3).mean() - 0.01


@pytest.mark.parametrize(
    ("reading", "dtype"), [("published", "float32"), ("described", "float32"), ("described", "float16")]
)
def test_an_interrupted_alignment_goes_on_to_the_same_bytes(
    reading: str, dtype: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(TINY, reading=reading)  # pyright: ignore[reportArgumentType]
    train = replace(TRAIN, load=LoadOptions(dtype=dtype))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    # So high that the first steps of float16 are left out, after each of which it is halved.
    monkeypatch.setattr(alignment, "FIRST_LOSS_SCALE", 2.0**40)
    whole = align("pocket-sd3", task, settings, tmp_path / "whole", train)
    draw = BatchSource.draw

    def interrupted(source: BatchSource, step: int) -> object:
        if step == 2:
            raise KeyboardInterrupt
        return draw(source, step)

    monkeypatch.setattr(BatchSource, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        align("pocket-sd3", task, settings, tmp_path / "parts", train)
    monkeypatch.setattr(BatchSource, "draw", draw)
    parts = align("pocket-sd3", task, settings, tmp_path / "parts", train)
    assert whole.equals(parts)
    assert len(whole) == 3
    for name in (LORA_FILE, STATE_FILE):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    nothing_left = align("pocket-sd3", task, settings, tmp_path / "parts", train)
    assert whole.equals(nothing_left)
    with pytest.raises(UserError, match=r"another alignment \(learning_rate differ\)"):
        align("pocket-sd3", task, replace(settings, learning_rate=2e-3), tmp_path / "parts", train)
    (tmp_path / "parts" / STATE_FILE).write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        align("pocket-sd3", task, settings, tmp_path / "parts", train)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_denoiser_of_half_precision_is_aligned_as_one_of_float32(dtype: str, task: Task, tmp_path: Path) -> None:
    settings = replace(TINY, learning_rate=1e-5)
    changes = []
    for each in ("float32", dtype):
        align("pocket-sd3", task, settings, tmp_path / each, replace(TRAIN, load=LoadOptions(dtype=each)))  # type: ignore[arg-type]
        state = load_file(tmp_path / each / STATE_FILE)
        assert {tensor.dtype for name, tensor in state.items() if name.startswith("optimiser.")} == {torch.float32}
        changes.append(torch.cat([state[name].flatten() for name in sorted(state) if ".lora_B" in name]))
    whole, half = changes
    assert (half != 0).float().mean() > 0.99
    assert torch.nn.functional.cosine_similarity(whole, half, dim=0) > 0.8


def test_a_kill_between_lora_and_state_leaves_no_older_lora(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align("pocket-sd3", task, TINY, tmp_path / "whole", TRAIN)
    files: list[Path] = []

    @contextmanager
    def killed(path: Path, *rest: bool) -> Iterator[BinaryIO]:
        if files:
            raise KeyboardInterrupt
        files.append(path)
        with replaced_bytes(path, *rest) as file:
            yield file

    for module in ("backbones.loading.lora", "bench.training.checkpoint"):
        monkeypatch.setattr(f"segscale.{module}.replaced_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        align("pocket-sd3", task, TINY, tmp_path / "killed", TRAIN)
    monkeypatch.undo()
    align("pocket-sd3", task, TINY, tmp_path / "killed", TRAIN)
    for name in (LORA_FILE, STATE_FILE):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_alignment_without_mask_loss_leaves_the_segmentation_within_its_interval(task: Task, tmp_path: Path) -> None:
    settings = AlignmentSettings("described", "named", 4, 4, 4, 1e-3, warm_up=2, focal=0, dice=0)
    align("pocket-sd3", task, settings, tmp_path / "lora", TRAIN)
    mious = []
    for lora in (None, str(tmp_path / "lora")):
        options = RunOptions(limit=45, results=tmp_path, batch=15, load=LoadOptions(lora=lora))
        (store,) = run_named("pocket-sd3", ["seg4diff-described"], "pocket", "standard", options)
        mious.append(evaluated(store).miou)
    plain, aligned = mious
    assert isinstance(plain.interval, Interval)
    assert plain.interval.low <= aligned.value <= plain.interval.high
    assert aligned.value != plain.value


def test_a_folder_with_a_lora_of_other_origin_is_left_alone(task: Task, tmp_path: Path) -> None:
    (tmp_path / LORA_FILE).write_bytes(b"a download")
    with pytest.raises(UserError, match="holds a LoRA that no alignment left there; choose another folder"):
        align("pocket-sd3", task, TINY, tmp_path, TRAIN)
    assert (tmp_path / LORA_FILE).read_bytes() == b"a download"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora", "there"], "leave --lora out"),
        (["--steps", "150"], "a warm-up of 500 steps leaves none of 150 at the full learning rate; name a shorter one"),
    ],
)
def test_what_could_not_be_evaluated_or_hardly_learns_is_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["align", "pocket-sd3", str(tmp_path / "lora"), *options])
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_block_that_reads_no_text_is_refused(backbone: Backbone) -> None:
    sites = backbone.sites(64)
    assert expert_site("pocket-sd3", sites, None).name == "vit-block4"
    with pytest.raises(UserError, match="segscale sites pocket-sd3"):
        expert_site("pocket-sd3", sites, "vit-block77")


def test_the_command_writes_a_lora_that_runs_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, chosen = tmp_path / "lora", ["--rank", "2", "--steps", "2", "--batch", "2", "--limit", "20"]
    main(["align", "pocket-sd15", str(folder), *chosen, "--learning-rate", "1e-2", "--warm-up", "1"])
    assert f"wrote {folder / LORA_FILE}" in capsys.readouterr().out
    assert len((folder / "losses.csv").read_text().splitlines()) == 3
    results = ["--results", str(tmp_path / "results"), "--limit", "1", "--backbone", "pocket-sd15"]
    main(["run", *results, "--lora", str(folder)])
    assert "pocket-sd15 + LoRA " in capsys.readouterr().out
