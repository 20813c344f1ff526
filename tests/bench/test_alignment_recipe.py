"""What one step of mask alignment does: its gradient, its layers, its levels and its constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segscale.backbones.attention.sites import Grid
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.loading.options import LoadOptions
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.task import Task
from segscale.bench.training import alignment, batches
from segscale.bench.training.align import expert_site
from segscale.bench.training.alignment import Alignment, matched_maps, named_maps
from segscale.bench.training.batches import BatchSource, TargetMask, TrainingBatch
from segscale.bench.training.objectives import dice_loss, focal_loss
from segscale.bench.training.settings import AlignmentSettings
from segscale.errors import UserError
from segscale.methods.method import PromptRule
from segscale.registry import build

pytest.importorskip("peft")

DESCRIBED = AlignmentSettings("described", rank=2, steps=10, images=3, learning_rate=1e-3, warm_up=1)
PUBLISHED = replace(DESCRIBED, reading="published")


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("pocket", build("protocol", "standard"), RunOptions(split="train"))


def begin(settings: AlignmentSettings) -> tuple[Alignment, Backbone]:
    backbone = build_backbone("pocket-sd3")
    sites = backbone.sites(64)
    return Alignment(backbone, expert_site("pocket-sd3", sites, None), sites, settings), backbone


def batch_of(alignment: Alignment, task: Task) -> TrainingBatch:
    source = BatchSource(alignment.backbone, task, 64, alignment.site.grid, alignment.settings, images=20)
    return source.draw(0)


def moves(alignment: Alignment, batch: TrainingBatch) -> list[torch.Tensor]:
    """How a first step moves each adapter."""
    before = [parameter.detach().clone() for parameter in alignment.parameters]
    alignment.step(0, batch)
    return [parameter.detach() - old for parameter, old in zip(alignment.parameters, before, strict=True)]


def gradients(alignment: Alignment, batch: TrainingBatch) -> list[torch.Tensor]:
    """Of the flow-matching loss alone, from its formula."""
    backbone = alignment.backbone
    answer = backbone.denoise(batch.noised, batch.timesteps, backbone.conditioning(batch.texts))
    return list(torch.autograd.grad(F.mse_loss(answer, batch.target), alignment.parameters))


@pytest.mark.parametrize("settings", [DESCRIBED, PUBLISHED], ids=lambda settings: settings.reading)
def test_without_mask_losses_a_step_follows_the_denoising_loss_alone(settings: AlignmentSettings, task: Task) -> None:
    alignment, _ = begin(replace(settings, focal=0, dice=0))
    batch = batch_of(alignment, task)
    wanted, moved = gradients(alignment, batch), moves(alignment, batch)
    opposed = [move * gradient < 0 for move, gradient in zip(moved, wanted, strict=True) if gradient.abs().max() > 1e-6]
    assert opposed
    assert float(torch.cat([each.flatten() for each in opposed]).float().mean()) > 0.99


def test_mask_losses_lead_elsewhere(task: Task) -> None:
    alignment, _ = begin(replace(DESCRIBED, focal=5, dice=5))
    batch = batch_of(alignment, task)
    wanted, moved = gradients(alignment, batch), moves(alignment, batch)
    opposed = [move * gradient < 0 for move, gradient in zip(moved, wanted, strict=True) if gradient.abs().max() > 1e-6]
    assert float(torch.cat([each.flatten() for each in opposed]).float().mean()) < 0.9


def test_the_target_is_what_leads_from_the_image_to_the_noise(task: Task) -> None:
    alignment, backbone = begin(DESCRIBED)
    batch = batch_of(alignment, task)
    sigma = (batch.timesteps / 1000).view(-1, 1, 1, 1)
    clean = batch.noised - sigma * batch.target
    capture = CaptureSettings(64, Timestep(t=0))
    images = [task.dataset[number].image for number in range(20)]
    known = backbone.encode_images(images, capture, [torch.Generator().manual_seed(0)] * 20)
    distances = (clean[:, None] - known[None]).flatten(2).norm(dim=2).min(1).values
    assert (distances < 0.35 * known.flatten(1).norm(dim=1).mean()).all()
    noise = clean + batch.target
    assert float(noise.mean()) == pytest.approx(0, abs=0.1)
    assert float(noise.std()) == pytest.approx(1, abs=0.1)


def test_levels_are_sigmoids_of_normal_draws(task: Task) -> None:
    alignment, _ = begin(replace(DESCRIBED, images=8))
    source = BatchSource(alignment.backbone, task, 64, alignment.site.grid, alignment.settings, images=20)
    sigmas = torch.cat([source.draw(step).timesteps for step in range(40)]) / 1000
    logits = torch.logit(sigmas)
    assert float(logits.mean()) == pytest.approx(0, abs=0.1)
    assert float(logits.std()) == pytest.approx(0.5, abs=0.07)


def test_the_lora_is_on_the_blocks_of_the_reading() -> None:
    sites = build_backbone("pocket-sd3").sites(64)
    described, published = (begin(settings)[0] for settings in (DESCRIBED, PUBLISHED))
    layers = ("to_q", "to_k", "to_v", "to_out.0")
    assert described.lora.modules == sorted(f"{described.site.text_module}.{layer}" for layer in layers)
    assert {name.partition(".attn")[0] for name in published.lora.modules} == {
        str(site.text_module).partition(".attn")[0] for site in sites
    }
    assert len(published.lora.modules) == len(layers) * len(sites)
    assert published.lora.alpha == published.lora.rank


def test_published_masks_pass_three_convolutions_that_learn_too(task: Task) -> None:
    alignment, _ = begin(PUBLISHED)
    shapes = [tuple(each.weight.shape) for each in alignment.head.modules() if isinstance(each, nn.Conv2d)]
    assert shapes == [(64, 1, 3, 3), (64, 64, 3, 3), (1, 64, 3, 3)]
    before = [parameter.detach().clone() for parameter in alignment.head.parameters()]
    alignment.step(0, batch_of(alignment, task))
    assert all(not torch.equal(old, new) for old, new in zip(before, alignment.head.parameters(), strict=True))
    assert [group["lr"] for group in alignment.optimiser.param_groups] == [1e-3, 1e-4]
    assert [*begin(DESCRIBED)[0].head.parameters()] == []


@pytest.mark.parametrize("settings", [DESCRIBED, PUBLISHED], ids=lambda settings: settings.reading)
def test_losses_of_masks_are_of_the_logits_that_the_head_gives(
    settings: AlignmentSettings, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    alignment, _ = begin(settings)
    batch = batch_of(alignment, task)
    seen: list[torch.Tensor] = []
    alignment.head.register_forward_hook(lambda _, __, output: seen.append(output.detach()[:, 0]))
    norms: list[float] = []
    clip = nn.utils.clip_grad_norm_

    def clipped(parameters: Any, norm: float) -> torch.Tensor:
        norms.append(norm)
        return clip(parameters, norm)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clipped)
    losses = alignment.step(0, batch)
    masks = torch.stack([mask.mask for mask in batch.masks])
    raw = settings.reading == "published"
    assert losses.focal == pytest.approx(float(focal_loss(seen[0], masks, raw)))
    assert losses.dice == pytest.approx(float(dice_loss(seen[0], masks)))
    assert norms == [0.01]
    assert {group["weight_decay"] for group in alignment.optimiser.param_groups} == {1e-4}


def test_the_map_of_a_class_is_the_mean_of_its_columns() -> None:
    scores = torch.arange(24.0).view(2, 1, 4, 3)
    masks = [TargetMask(0, (1,), torch.zeros(2, 2)), TargetMask(1, (0, 2), torch.zeros(2, 2))]
    batch = TrainingBatch(torch.zeros(0), torch.zeros(0), torch.zeros(0), [], masks, [])
    torch.testing.assert_close(named_maps(scores, batch), torch.tensor([[1.0, 4, 7, 10], [13.0, 16, 19, 22]]))


@pytest.mark.parametrize("name", ["pocket-sd3", "pocket-pixart-sigma"])
def test_masks_are_matched_with_maps_of_tokens_that_are_read(
    name: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build_backbone(name)
    sites = backbone.sites(64)
    aligned = Alignment(backbone, expert_site(name, sites, None), sites, replace(DESCRIBED, targets="matched"))
    batch, seen = batch_of(aligned, task), []
    monkeypatch.setattr(alignment, "matched_maps", lambda *given: seen.append(given) or matched_maps(*given))
    aligned.step(0, batch)
    ((scores, _, _, columns, _),) = seen
    if name == "pocket-sd3":  # 16 of CLIP, and as many zero rows in the place of T5
        assert scores.shape[-1] == 32
        assert columns == [[*range(16)]] * 3
    else:
        tokenizer = backbone.pipeline.tokenizer
        assert columns == [[*range(len(tokenizer(text.lower()).input_ids))] for text in batch.texts]
        assert max(map(len, columns)) < scores.shape[-1]


def test_a_map_that_is_no_candidate_is_not_matched() -> None:
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    scores = torch.stack([8 * (2 * mask.flatten() - 1), torch.zeros(4), torch.ones(4)], dim=-1)[None, None]
    targets = [TargetMask(0, (), mask)]
    for columns, best in (([0, 1, 2], 0), ([1, 2], 2)):
        maps = matched_maps(scores, targets, mask[None], [columns], raw=False)
        torch.testing.assert_close(maps, scores[0, :, :, best])


def test_merged_labels_are_one_class(task: Task) -> None:
    sample = next(sample for sample in task.dataset if len(np.unique(sample.label)) == 3)
    first, second = (int(id) for id in np.unique(sample.label) if id != task.dataset.background)
    merged = replace(task, protocol=replace(task.protocol, merged_labels=((first, second),)))
    source = BatchSource(build_backbone("pocket-sd3"), merged, 64, Grid(64, 64), DESCRIBED, images=1)
    (group,) = merged.present_prompts(PromptRule("described", DESCRIBED.rules.location), sample).groups
    tokens = source.backbone.tokenize(group.prompt)
    (mask,) = source._masks(0, sample, tokens, group.class_ids)
    np.testing.assert_array_equal(mask.mask.bool().numpy(), np.isin(sample.label, [first, second]))
    matched = replace(source, settings=replace(DESCRIBED, targets="matched"))
    assert len(matched._masks(0, sample, tokens, group.class_ids)) == 2  # with the ground


def test_of_many_masks_the_largest_are_kept(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BatchSource(build_backbone("pocket-sd3"), task, 64, Grid(64, 64), DESCRIBED, images=1)
    many = replace(source, settings=replace(DESCRIBED, targets="matched"))
    sample = task.dataset[0]
    label = np.minimum(np.arange(64 * 64) // 64, 49).reshape(64, 64).astype(np.uint8)
    masks = many._masks(0, replace(sample, label=label), None, ())  # type: ignore[arg-type]
    assert len(masks) == batches.MOST_MASKS == 32
    assert masks[0].mask.sum() == 15 * 64
    monkeypatch.setattr(batches, "MOST_MASKS", 3)
    assert len(many._masks(0, replace(sample, label=label), None, ())) == 3  # type: ignore[arg-type]


def test_gradients_that_are_not_finite_at_any_scale_end_the_alignment(
    monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    backbone = build_backbone("pocket-sd3", LoadOptions(dtype="float16"))
    sites = backbone.sites(64)
    aligned = Alignment(backbone, expert_site("pocket-sd3", sites, None), sites, DESCRIBED)
    zero = torch.zeros(())

    def losses(_: TrainingBatch) -> tuple[torch.Tensor, ...]:
        broken = sum(parameter.sum() for parameter in aligned.parameters) * 0
        broken.register_hook(lambda gradient: gradient * torch.nan)  # type: ignore[union-attr]
        return broken, zero, zero  # type: ignore[return-value]

    monkeypatch.setattr(aligned, "_losses", losses)
    batch = batch_of(aligned, task)
    while aligned.scaler.get_scale() > 1:
        aligned.step(0, batch)
    with pytest.raises(UserError, match="gradients are not finite at any loss scale"):
        aligned.step(0, batch)


def test_gradients_of_float16_hold_where_the_loss_is_a_mean_over_millions(
    monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    """As of 16 pictures of 1024 pixels, whose latents have a thousand times as many numbers."""
    found: list[torch.Tensor] = []
    for dtype in ("float32", "float16"):
        backbone = build_backbone("pocket-sd3", LoadOptions(dtype=dtype))  # type: ignore[arg-type]
        sites = backbone.sites(64)
        settings = replace(DESCRIBED, focal=0, dice=0)
        aligned = Alignment(backbone, expert_site("pocket-sd3", sites, None), sites, settings)
        whole = aligned._losses
        monkeypatch.setattr(aligned, "_losses", lambda batch, whole=whole: tuple(loss / 1024 for loss in whole(batch)))
        aligned.step(0, batch_of(aligned, task))
        found.append(torch.cat([p.grad.flatten() for p in aligned.parameters if p.grad is not None]))
    assert F.cosine_similarity(*found, dim=0) > 0.99
