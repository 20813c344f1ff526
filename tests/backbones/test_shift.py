"""Twins whose stock pipeline decodes without the autoencoder's shift carry it in the autoencoder's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segscale.backbones.build import build_backbone, build_shape_only
from segscale.backbones.latents.pictures import latents_of as encoded
from segscale.backbones.latents.pictures import pictures_of
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.pocket.architectures import TWINS
from segscale.backbones.pocket.autoencoder import build_autoencoder, fold_shift, halved
from segscale.datasets.pocket import make_scene

FOLDED = [name for name, twin in TWINS.items() if not twin.decodes_with_shift]
IMAGES = [Image.fromarray(make_scene(0, "val", index).image) for index in range(4)]


def latents_of(name: str) -> Tensor:
    settings = CaptureSettings(64, Timestep(t=200), posterior="mean")
    return build_backbone(name).encode_images(IMAGES, settings, [])


def test_folding_the_shift_changes_neither_scaled_latents_nor_decoded_images() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder().eval()
    vae.register_to_config(shift_factor=0.7)
    folded = fold_shift(vae)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before, after = (each.encode(images).latent_dist for each in (vae, folded))
        torch.testing.assert_close(after.mean, before.mean - 0.7, atol=1e-5, rtol=0)
        torch.testing.assert_close(after.std, before.std, atol=0, rtol=0)
        torch.testing.assert_close(folded.decode(after.mean).sample, vae.decode(before.mean).sample)
    assert folded.config["shift_factor"] == 0
    assert vae.config["shift_factor"] == 0.7


def test_half_precision_leaves_the_biases_that_hold_the_shift_as_they_were() -> None:
    vae = build_autoencoder()
    half = halved(vae)
    for name in ("quant_conv", "post_quant_conv"):
        assert torch.equal(half.get_submodule(name).bias, vae.get_submodule(name).bias)
    assert half.encoder.conv_in.weight.dtype == torch.float16


@pytest.mark.parametrize("name", FOLDED)
def test_a_twin_encodes_as_one_whose_shift_is_not_folded(name: str) -> None:
    torch.testing.assert_close(latents_of(name), latents_of("pocket-sd3"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FOLDED)
def test_a_twins_stock_pipeline_draws_right_colours(name: str) -> None:
    pipeline = build_backbone(name).pipeline
    size = {"use_resolution_binning": False} if name == "pocket-pixart-sigma" else {}
    generator = torch.Generator().manual_seed(0)
    images = pipeline(
        ["sand, a star"] * 4, num_inference_steps=12, guidance_scale=3, output_type="np", generator=generator, **size
    ).images
    # Sand is (196, 172, 128); with the shift missing it is off by more than 40.
    colour = 255 * np.median(images, axis=(0, 1, 2))
    np.testing.assert_allclose(colour, (196, 172, 128), atol=15)


@pytest.mark.parametrize(("side", "together"), [(64, 100), (128, 100), (512, 6), (1024, 1)])
def test_large_pictures_go_through_the_vae_few_at_a_time(
    side: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = build_shape_only("sdxl").vae
    encode, decode, rows = vae.encode, vae.decode, []

    def counted(whole: Any) -> Any:
        return lambda batch: (rows.append(len(batch)), whole(batch))[1]

    monkeypatch.setattr(vae, "encode", counted(encode))
    monkeypatch.setattr(vae, "decode", counted(decode))
    count = together + 1
    latents = encoded(vae, torch.empty(count, 3, side, side, device="meta"))
    pictures_of(vae, latents)
    assert rows == [together, 1] * 2
