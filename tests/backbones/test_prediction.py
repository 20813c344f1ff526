"""What a denoiser predicts, decoded, beside attention or alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt
from segscale.errors import UserError
from segscale.methods.build import method_defaults

SCENES = [make_scene(0, "val", index) for index in range(3)]
PICTURE = MapRequest(picture=True)


@cache
def loaded(name: str) -> Backbone:
    return build_backbone(name)


def asked(backbone: Backbone, t: float) -> list[PromptedImage]:
    settings = CaptureSettings(method_defaults(backbone.name).image_size, Timestep(t=t), posterior="mean")
    images = [Image.fromarray(scene.image) for scene in SCENES]
    generators = [image_generator(0, "test", str(index)) for index in range(len(images))]
    prompts = [class_prompt(scene.objects, [scene.ground]) for scene in SCENES]
    noised = backbone.noised(images, settings, generators)
    return [PromptedImage(*each, prompt) for each, prompt in zip(noised, prompts, strict=True)]


def distance(picture: torch.Tensor, scene: int) -> float:
    size = picture.shape[-1]
    true = np.asarray(Image.fromarray(SCENES[scene].image).resize((size, size)), np.float32) / 127.5 - 1
    return float((picture - torch.from_numpy(true).permute(2, 0, 1)).square().mean())


@pytest.mark.parametrize("name", ["pocket-sd15", "pocket-sd3", "pocket-flux"])
def test_the_predicted_picture_is_the_image_and_better_with_less_noise(name: str) -> None:
    backbone = loaded(name)
    size = method_defaults(name).image_size
    errors: list[float] = []
    for t in (100, 700):
        pictures = [maps.picture for maps in backbone.observe(asked(backbone, t), PICTURE, size)]
        assert all(picture is not None and picture.shape == (3, size, size) for picture in pictures)
        assert all(float(picture.abs().max()) <= 1 for picture in pictures if picture is not None)
        own = [distance(picture, row) for row, picture in enumerate(pictures) if picture is not None]
        others = [distance(picture, (row + 1) % 3) for row, picture in enumerate(pictures) if picture is not None]
        assert all(mine < other for mine, other in zip(own, others, strict=True))
        errors.append(sum(own))
    assert errors[0] < errors[1]


def test_a_picture_does_not_depend_on_the_batch_or_on_what_else_is_observed() -> None:
    backbone = loaded("pocket-sd3")
    images = asked(backbone, 300)
    together = backbone.observe(images, MapRequest(text=frozenset(["vit-block4"]), picture=True), 64)
    for image, both in zip(images, together, strict=True):
        (alone,) = backbone.observe([image], PICTURE, 64)
        assert alone.picture is not None
        assert both.picture is not None
        assert alone.text == {}
        torch.testing.assert_close(both.picture, alone.picture, atol=1e-4, rtol=0)


def test_only_who_asks_for_the_picture_sees_it() -> None:
    backbone = loaded("pocket-sd3")
    request = MapRequest(text=frozenset(["vit-block4"]))
    (maps,) = backbone.observe(asked(backbone, 300)[:1], request | PICTURE, 64)
    assert maps.only(request).picture is None
    assert maps.only(PICTURE).picture is not None
    (without,) = backbone.observe(asked(backbone, 300)[:1], request, 64)
    assert without.picture is None


def test_masks_are_refused_where_none_are_drawn() -> None:
    backbone = loaded("pocket-sd3")
    settings = CaptureSettings(64, Timestep(t=1000), drawn="mask")
    image = Image.fromarray(SCENES[0].image)
    with pytest.raises(UserError, match="pocket-sd3 draws no masks beside pictures"):
        backbone.noised([image], settings, [image_generator(0, "test", "0")])
