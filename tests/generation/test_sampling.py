from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.pocket.architectures import TWINS
from segscale.backbones.text.conditioning import Conditioning
from segscale.bench.generation.choices import SamplingChoices
from segscale.bench.generation.guidance import ClassifierFree, Guidance, GuidedStep
from segscale.bench.generation.prompts import PicturePrompt
from segscale.bench.generation.record import PicturePlan, SamplingSettings, StoredPictures, read_record, write_record
from segscale.bench.generation.sampling import NOISE_OF, Rows, draw
from segscale.bench.generation.settings import sampling_settings
from segscale.bench.runs.conditions import machine
from segscale.bench.runs.identity import content_digest
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import plan_backbone
from segscale.bench.runs.record import Sources
from segscale.errors import UserError

from ..architectures import shape_only

PROMPTS = [PicturePrompt("a", "grass, a star"), PicturePrompt("b", "sand, a ring, a ball")]


def settings_of(name: str, **choices: float) -> SamplingSettings:
    return sampling_settings(name, SamplingChoices(**({"steps": 4} | choices)))  # type: ignore[arg-type]


def test_timesteps_are_where_the_latents_are() -> None:
    # Flow-matching schedulers keep theirs on the CPU.
    rows = Rows(torch.zeros(2, 4, 1, 1, device="meta"), torch.tensor(900.0), Conditioning({}, 0), [])
    assert rows.inputs.timesteps.device.type == "meta"
    assert rows.inputs.timesteps.shape == (2,)


def pixels(pictures: list[Image]) -> NDArray[np.int_]:
    return np.stack([np.asarray(picture, int) for picture in pictures])


def stock_pictures(backbone: Backbone, settings: SamplingSettings) -> NDArray[np.int_]:
    """What diffusers' own pipeline draws from the same noise."""
    side = settings.image_size // backbone.latent_stride
    generators = [image_generator(settings.seed, NOISE_OF, prompt.id) for prompt in PROMPTS]
    noise = torch.cat([torch.randn(1, 4, side, side, generator=generator) for generator in generators])
    special: dict[str, object] = {"guidance_scale": settings.guidance}
    if backbone.name == "pocket-flux":
        noise = backbone.pipeline._pack_latents(noise, len(noise), 4, side, side)
        special = {"true_cfg_scale": settings.guidance, "negative_prompt": "", "guidance_scale": backbone.guidance}
        special["max_sequence_length"] = 16
    elif backbone.name == "pocket-pixart-sigma":
        special |= {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 16}
    elif backbone.name == "pocket-sd3":
        special["max_sequence_length"] = backbone.t5_tokens
    output = backbone.pipeline(
        [prompt.text for prompt in PROMPTS],
        height=settings.image_size,
        width=settings.image_size,
        num_inference_steps=settings.steps,
        latents=noise,
        output_type="pil",
        **special,
    )
    return pixels(output.images)


@pytest.mark.parametrize("name", TWINS)
def test_pictures_are_those_of_the_stock_pipeline(name: str) -> None:
    backbone, settings = build_backbone(name), settings_of(name)
    ours = pixels(draw(backbone, PROMPTS, settings, ClassifierFree(settings.guidance)))
    assert ours.shape[1:] == (settings.image_size, settings.image_size, 3)
    assert ours.std() > 10
    assert np.abs(ours - stock_pictures(backbone, settings)).max() <= 2


@pytest.mark.parametrize(("name", "arguments"), [("pocket-flux", {"guidance": 3.5}), ("pocket-sd3", {"t5_tokens": 32})])
def test_arguments_of_pictures_alone_are_those_of_the_stock_pipeline(name: str, arguments: dict[str, Any]) -> None:
    plan = plan_backbone(name, RunOptions())
    backbone, settings = plan.load(**arguments), settings_of(name)
    ours = pixels(draw(backbone, PROMPTS, settings, ClassifierFree(settings.guidance)))
    assert np.abs(ours - stock_pictures(backbone, settings)).max() <= 2
    others = pixels(draw(plan.load(), PROMPTS, settings, ClassifierFree(settings.guidance)))
    assert np.abs(ours - others).max() > 2


def test_real_backbones_draw_as_their_pipelines_do_and_the_plan_says_it(tmp_path: Path) -> None:
    expected = {
        "flux": {"guidance": 3.5},
        "flux-schnell": {},
        "sd3": {"t5_tokens": 256},
        "sd35-large": {"t5_tokens": 256},
    }
    for name, arguments in expected.items():
        assert sampling_settings(name, SamplingChoices()).arguments == arguments
    plan = PicturePlan(plan_backbone("pocket-flux", RunOptions()).identity, settings_of("pocket-flux"), "p", "d", "1")
    content = asdict(plan)
    del content["settings"]["arguments"]
    assert plan.plan_id == content_digest(content)
    changed = replace(plan, settings=replace(plan.settings, arguments={"guidance": 3.5}))
    assert changed.plan_id != plan.plan_id
    record = StoredPictures(changed, None, machine(), Sources(), changed.plan_id)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_an_sdxl_that_guides_away_from_zeros_draws_as_its_stock_pipeline() -> None:
    backbone, settings = build_backbone("pocket-sdxl"), settings_of("pocket-sdxl", steps=3)
    encoded = pixels(draw(backbone, PROMPTS, settings, ClassifierFree(settings.guidance)))
    backbone.pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    zeros = pixels(draw(backbone, PROMPTS, settings, ClassifierFree(settings.guidance)))
    assert np.abs(zeros - encoded).max() > 2
    assert np.abs(zeros - stock_pictures(backbone, settings)).max() <= 2


@pytest.mark.parametrize("name", ["sd15", "sdxl", "pixart-sigma", "sd3", "flux"])
def test_the_real_architectures_take_rows_with_and_without_prompt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # transformers looks into a mask's values to skip it; meta tensors have none.
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False)
    backbone, settings = shape_only(name), sampling_settings(name, SamplingChoices())
    rows = [*backbone.conditioning(["a star"]).rows(backbone.dtype), *backbone.unconditional(1).rows(backbone.dtype)]
    side = settings.image_size // backbone.latent_stride
    latents = torch.empty(2, backbone.vae.config["latent_channels"], side, side, device="meta")
    timesteps = torch.full((2,), 500.0, device="meta")
    assert backbone.denoise(latents, timesteps, Conditioning.of_rows(rows)).shape == latents.shape
    assert backbone.vae.decode(latents).sample.shape == (2, 3, settings.image_size, settings.image_size)


@pytest.mark.parametrize("name", ["pocket-sd15", "pocket-sd3"])
def test_a_picture_depends_on_no_batch_and_no_order(name: str) -> None:
    backbone, settings, rule = build_backbone(name), settings_of(name), ClassifierFree(3)
    together = pixels(draw(backbone, PROMPTS, settings, rule))
    reverse = pixels(draw(backbone, PROMPTS[::-1], settings, rule))
    alone = pixels(draw(backbone, PROMPTS[:1], settings, rule))
    assert np.abs(together - reverse[::-1]).max() <= 1
    assert np.abs(together[:1] - alone).max() <= 1


def test_noise_follows_from_seed_and_id() -> None:
    backbone, settings = build_backbone("pocket-sd15"), settings_of("pocket-sd15")
    rule = ClassifierFree(3)
    first, second = PROMPTS
    renamed = PicturePrompt("c", first.text)
    drawn = pixels(draw(backbone, [first, renamed, replace(second, id="a")], settings, rule))
    assert np.abs(drawn[0] - drawn[1]).mean() > 5
    other_seed = pixels(draw(backbone, [first], replace(settings, seed=1), rule))
    assert np.abs(drawn[0] - other_seed[0]).mean() > 5


def test_noise_that_is_shared_follows_from_the_seed_alone() -> None:
    backbone = build_backbone("pocket-sd15")
    alike = [replace(PROMPTS[0], id=name) for name in "ab"]
    settings = replace(settings_of("pocket-sd15"), shared_noise=True)
    first, second = pixels(draw(backbone, alike, settings, ClassifierFree(settings.guidance)))
    assert np.array_equal(first, second)
    (other,) = pixels(draw(backbone, alike[:1], replace(settings, seed=1), ClassifierFree(settings.guidance)))
    assert not np.array_equal(first, other)
    own = pixels(draw(backbone, alike, replace(settings, shared_noise=False), ClassifierFree(settings.guidance)))
    assert not np.array_equal(own[0], own[1])


def test_guidance_of_1_asks_for_no_unconditional_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, settings = build_backbone("pocket-sd15"), settings_of("pocket-sd15", guidance=1.0)
    rows: list[int] = []
    denoise = backbone.denoise

    def counting(latent: Tensor, *rest: object) -> Tensor:
        rows.append(len(latent))
        return denoise(latent, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(backbone, "denoise", counting)
    draw(backbone, PROMPTS, settings, ClassifierFree(1.0))
    assert set(rows) == {2}
    draw(backbone, PROMPTS, settings, ClassifierFree(1.5))
    assert set(rows) == {2, 4}


class Looking(Guidance):
    """Plain guidance that also looks at maps, and asks again."""

    def __init__(self, scale: float, site: str) -> None:
        super().__init__(scale)
        self.site = site
        self.steps: list[GuidedStep] = []

    def request(self, backbone: Backbone, image_size: int) -> MapRequest:
        return MapRequest(text=frozenset([self.site]))

    def __call__(self, step: GuidedStep) -> Tensor:
        self.steps.append(step)
        torch.testing.assert_close(step.predict_again(), step.conditional, atol=1e-4, rtol=0)
        return ClassifierFree(self.scale)(step)


@pytest.mark.parametrize(
    ("name", "site"), [("pocket-sd15", "up-level1-repeat0-vit-block0"), ("pocket-flux", "vit-block1")]
)
def test_a_rule_sees_the_maps_of_both_rows_in_the_forward(name: str, site: str) -> None:
    backbone, settings = build_backbone(name), settings_of(name, steps=2)
    rule = Looking(3.0, site)
    seen = pixels(draw(backbone, PROMPTS, settings, rule))
    plain = pixels(draw(backbone, PROMPTS, settings, ClassifierFree(3.0)))
    assert np.abs(seen - plain).max() <= 1
    assert len(rule.steps) >= settings.steps
    for step in rule.steps:
        assert len(step.conditional_maps) == len(step.unconditional_maps) == len(PROMPTS)
        for given, free in zip(step.conditional_maps, step.unconditional_maps, strict=True):
            assert given.text[site].shape == free.text[site].shape
            assert not torch.equal(given.text[site], free.text[site])
        first, second = step.conditional_maps
        assert not torch.equal(first.text[site], second.text[site])


def test_settings_are_the_configs_unless_chosen() -> None:
    assert sampling_settings("sd15", SamplingChoices()) == SamplingSettings(512, 50, 7.5, "cfg", 0)
    chosen = sampling_settings("sd15", SamplingChoices(steps=3, guidance=0.0, size=64), seed=4)
    assert chosen == SamplingSettings(64, 3, 0.0, "cfg", 4)


def test_a_size_that_the_architecture_cannot_take_is_refused() -> None:
    with pytest.raises(UserError, match="takes no images of 62 px"):
        draw(build_backbone("pocket-sd15"), PROMPTS, settings_of("pocket-sd15", size=62), ClassifierFree(3))
