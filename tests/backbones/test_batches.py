"""Images of one batch share a forward, and each gets what it would get alone."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from PIL import Image
from torch import Tensor

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.ways import Way, Ways
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.text.memory import REMEMBERED_PROMPTS
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt
from segscale.methods.build import method_defaults
from segscale.methods.head_weights import ContributionWeighting, OneHead
from segscale.methods.layer_weights import ReferenceAffinity

FAMILIES = ("pocket-sd15", "pocket-sdxl", "pocket-pixart-sigma", "pocket-sd3", "pocket-flux")
# Of different lengths, so that padding and masks differ; the first asks for twice.
PROMPTS = (
    class_prompt(["star", "ring"], ["grass"]),
    class_prompt(["moon"]),
    class_prompt(["star", "ring"], ["grass"]),
    class_prompt(["ball", "leaf", "cone", "heart"], ["sand"]),
)
every_family = pytest.mark.parametrize("name", FAMILIES)


@cache
def loaded(name: str) -> Backbone:
    return build_backbone(name)


def settings_of(backbone: Backbone) -> CaptureSettings:
    defaults = method_defaults(backbone.name)
    return CaptureSettings(defaults.image_size, Timestep(t=defaults.timestep))


def pictures() -> list[Image.Image]:
    return [Image.fromarray(make_scene(0, "val", number).image) for number in range(len(PROMPTS))]


def generators() -> list[torch.Generator]:
    return [image_generator(0, "test", str(number)) for number in range(len(PROMPTS))]


def everything(backbone: Backbone) -> MapRequest:
    sites = backbone.sites(settings_of(backbone).image_size)
    names = frozenset(site.name for site in sites)
    reading = frozenset(site.name for site in sites if site.text_module)
    reference = method_defaults(backbone.name).reference_site
    rules = (
        ContributionWeighting("dot-product", clamp=True, value_norm=True),
        ContributionWeighting("cosine", clamp=True, safe_division=True),
        ContributionWeighting("l2-norm"),
        OneHead(1),
    )
    return MapRequest(
        text=reading,
        pixels=frozenset([reference]),
        weighted=frozenset((name, rule) for name in reading for rule in rules),
        similar=frozenset((name, ReferenceAffinity(reference)) for name in names),
    )


def numbers(maps: AttentionMaps) -> dict[object, Tensor]:
    return {
        (kind, key): value
        for kind in ("text", "pixels", "weighted", "similarity")
        for key, value in getattr(maps, kind).items()
    }


@every_family
@pytest.mark.parametrize("way", ["fused", "chunked"])
def test_every_row_of_a_batch_is_as_alone(name: str, way: Way) -> None:
    backbone = loaded(name)
    settings, request, ways = settings_of(backbone), everything(backbone), Ways(way, way)
    noised = backbone.noised(pictures(), settings, generators())
    images = [PromptedImage(*row, prompt) for row, prompt in zip(noised, PROMPTS, strict=True)]

    def observe(rows: list[PromptedImage]) -> list[AttentionMaps]:
        return backbone.observe(rows, request, settings.image_size, torch.float32, ways)

    together = observe(images)
    alone = [observe([image])[0] for image in images]
    for batched, single in zip(together, alone, strict=True):
        assert batched.tokens == single.tokens
        assert batched.ways == single.ways
        assert numbers(batched).keys() == numbers(single).keys()
        for key, value in numbers(single).items():
            torch.testing.assert_close(numbers(batched)[key], value, atol=1e-5, rtol=1e-5)
    first, third = numbers(together[0]), numbers(together[2])
    assert any(not torch.allclose(first[key], third[key], atol=1e-3) for key in first), "same prompt, other image"


@every_family
def test_noise_and_latents_of_a_batch_are_as_alone(name: str) -> None:
    backbone = loaded(name)
    settings = settings_of(backbone)
    together = backbone.noised(pictures(), settings, generators())
    for number, (latent, level) in enumerate(together):
        ((single, expected),) = backbone.noised([pictures()[number]], settings, [generators()[number]])
        assert level == expected
        torch.testing.assert_close(latent, single, atol=1e-5, rtol=1e-5)


@every_family
def test_text_of_a_batch_is_as_alone_and_encoded_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone(name)
    texts = [prompt.text for prompt in PROMPTS]
    alone = [build_backbone(name).conditioning([text]) for text in texts[:2]]
    calls: list[list[str]] = []
    encode = backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda asked: calls.append(asked) or encode(asked))
    together = backbone.conditioning(texts)
    backbone.conditioning(texts[:1])
    assert calls == [[texts[0], texts[1], texts[3]]]
    for number, single in enumerate(alone):
        assert together.text_length == single.text_length
        for key, value in single.inputs.items():
            torch.testing.assert_close(together.inputs[key][[number]], value, atol=1e-5, rtol=1e-5)


def test_a_batch_may_have_more_prompts_than_are_remembered() -> None:
    backbone = build_backbone("pocket-sd15")
    texts = [str(number) for number in range(REMEMBERED_PROMPTS + 3)]
    together = backbone.conditioning(texts)
    assert len(together.inputs["encoder_hidden_states"]) == len(texts)
    assert len(backbone.prompts) == REMEMBERED_PROMPTS
