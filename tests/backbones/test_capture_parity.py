"""The whole capture against numbers of the papers' official code, on their tiny random pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.backbone import Backbone
from segscale.backbones.flux import Flux, pack, position_ids, unpack
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.images import pixel_values
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.sd3 import StableDiffusion3
from segscale.backbones.stable_diffusion import StableDiffusion
from segscale.prompt import Prompt

SEG4DIFF = CaptureSettings(256, Timestep(index=-8, steps=28), resize="shortest-edge", posterior="mean")


def close(actual: Tensor, expected: Any, tolerance: float) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=tolerance, rtol=0)


def observe_all(backbone: Backbone, noised: Tensor, settings: CaptureSettings, text: str) -> AttentionMaps:
    names = frozenset(site.name for site in backbone.sites(settings.image_size))
    level = backbone.noise_level(settings)
    request = MapRequest(names, names)
    images = [PromptedImage(noised, level, Prompt(text, ()))]
    return backbone.observe(images, request, settings.image_size, torch.float32)[0]


def test_sd15(goca_parity: Path) -> None:
    stored = load_file(goca_parity / "end2end-sd15.safetensors")
    facts = json.loads((goca_parity / "end2end-sd15.json").read_text())
    backbone = StableDiffusion(name="tiny", weights=str(goca_parity / "tiny-sd15"))
    settings = CaptureSettings(256, Timestep(t=facts["requested_t"]))
    level = backbone.noise_level(settings)
    assert level.timestep == stored["input/timestep"].item() == 101

    with torch.no_grad():
        values = pixel_values(Image.open(goca_parity / "end2end-sd15.png"), settings)
        posterior = backbone.vae.encode(values).latent_dist
    close(posterior.mean, stored["input/posterior_mean"], 2e-3)
    close(posterior.std, stored["input/posterior_std"], 2e-3)
    sampled = stored["input/posterior_mean"] + stored["input/posterior_std"] * stored["input/posterior_noise"]
    clean = sampled * backbone.vae.config["scaling_factor"]
    close(clean, stored["input/latent_clean"], 1e-6)
    close(level.mix(clean, stored["input/noise"]), stored["input/latent_noised"], 1e-6)

    ids = backbone.pipeline.tokenizer(facts["prompt"], padding="max_length").input_ids
    assert ids == stored["input/token_ids"].flatten().tolist()
    states = backbone.conditioning([facts["prompt"]]).inputs["encoder_hidden_states"]
    close(states, stored["input/prompt_embeds"], 1e-5)

    predictions: list[Tensor] = []
    backbone.denoiser.register_forward_hook(lambda module, arguments, output: predictions.append(output[0]))
    maps = observe_all(backbone, stored["input/latent_noised"], settings, facts["prompt"])
    close(predictions[0], stored["unet/noise_pred"], 1e-4)
    assert [*maps.sites] == facts["feature_order"]
    for site in facts["cross_layers"]:
        close(maps.text[site], stored[f"cross_mean/{site}"], 1e-5)


def test_a_sampled_latent_is_the_mean_plus_a_draw_from_the_generator(goca_parity: Path) -> None:
    backbone = StableDiffusion(name="tiny", weights=str(goca_parity / "tiny-sd15"))
    image = Image.open(goca_parity / "end2end-sd15.png")
    mean, sample = (
        backbone.encode_images(
            [image], CaptureSettings(256, Timestep(t=100), posterior=kind), [torch.Generator().manual_seed(5)]
        )
        for kind in ("mean", "sample")
    )
    draw = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        std = backbone.vae.encode(pixel_values(image, CaptureSettings(256, Timestep(t=100)))).latent_dist.std
    close(sample - mean, std * draw * backbone.vae.config["scaling_factor"], 1e-4)


def sd3(folder: Path) -> StableDiffusion3:
    return StableDiffusion3(name="tiny", weights=str(folder), t5_tokens=77, with_t5=False)


def flux(folder: Path) -> Flux:
    return Flux(name="tiny", weights=str(folder), text_tokens=77, guidance=3.5)


def check_latent(backbone: Backbone, settings: CaptureSettings, parity: Path, stored: Any) -> Tensor:
    """Checks everything before the denoiser; returns the noised latent."""
    image = Image.open(parity / "inputs" / "image_a.png")
    close(pixel_values(image, settings), stored["vae_input"], 0)
    latent = backbone.encode_images([image], settings, [torch.Generator()])
    close(latent, stored["latent"], 1e-5)
    level = backbone.noise_level(settings)
    assert level.timestep == pytest.approx(stored["timestep"].item(), abs=1e-3)
    assert level.noise == pytest.approx(stored["sigma"].item(), abs=1e-6)
    noised = level.mix(torch.from_numpy(stored["latent"]), torch.from_numpy(stored["noise"]))
    close(noised, stored["noised_latent"], 1e-5)
    return noised


def relative(actual: Tensor, expected: Any) -> None:
    """Within 1e-4 of the largest value, as the oracle's tolerance says."""
    close(actual, expected, 1e-4 * float(np.abs(expected).max()))


def test_sd3_at_every_layer(seg4diff_parity: Path) -> None:
    oracle = seg4diff_parity / "oracle"
    meta = json.loads((oracle / "meta.json").read_text())
    stored, layers = np.load(oracle / "sd3_voc20.npz"), np.load(oracle / "sd3_voc20_layers.npz")
    backbone = sd3(seg4diff_parity / "tiny-sd3")
    noised = check_latent(backbone, SEG4DIFF, seg4diff_parity, np.load(oracle / "sd3_common.npz"))
    text = prompt_of(meta, "sd3_voc20")
    conditioning = backbone.conditioning([text])
    close(conditioning.inputs["encoder_hidden_states"][0], stored["prompt_embeds"], 1e-5)
    close(conditioning.inputs["pooled_projections"][0], stored["pooled"], 1e-5)
    maps = observe_all(backbone, noised, SEG4DIFF, text)
    for layer in range(12):
        relative(maps.text[f"vit-block{layer}"][:, :77], layers[f"i2t_layer{layer}"])
    relative(maps.text["vit-block9"][:, :77], stored["i2t"])


@pytest.mark.parametrize("steps", [1, 14, 28])
def test_sd3_at_other_noise_levels(seg4diff_parity: Path, steps: int) -> None:
    oracle = seg4diff_parity / "oracle"
    common, layers = np.load(oracle / "sd3_common.npz"), np.load(oracle / "sd3_voc20_layers.npz")
    settings = CaptureSettings(256, Timestep(index=-steps, steps=28))
    backbone = sd3(seg4diff_parity / "tiny-sd3")
    level = backbone.noise_level(settings)
    assert level.noise == pytest.approx(layers[f"sigma_noise_steps{steps}"].item(), rel=1e-5)
    assert level.timestep == pytest.approx(layers[f"timestep_noise_steps{steps}"].item(), rel=1e-5)
    noised = level.mix(torch.from_numpy(common["latent"]), torch.from_numpy(common["noise"]))
    text = prompt_of(json.loads((oracle / "meta.json").read_text()), "sd3_voc20")
    maps = observe_all(backbone, noised, settings, text)
    relative(maps.text["vit-block9"][:, :77], layers[f"i2t_noise_steps{steps}"])


def test_flux_at_every_layer(seg4diff_parity: Path) -> None:
    oracle = seg4diff_parity / "oracle"
    meta = json.loads((oracle / "meta.json").read_text())
    common, stored = np.load(oracle / "flux_common.npz"), np.load(oracle / "flux_voc20.npz")
    backbone = flux(seg4diff_parity / "tiny-flux")
    settings = CaptureSettings(
        256,
        Timestep(index=-8, steps=50),
        resize="shortest-edge",
        posterior="mean",
        pixel_range="unit",
        shift_by="latent-channels",
    )
    noised = check_latent(backbone, settings, seg4diff_parity, common)
    close(pack(noised), common["packed"], 1e-5)
    close(unpack(pack(noised), 32, 32), noised, 0)
    close(position_ids(16, 16), common["img_ids"], 0)
    maps = observe_all(backbone, noised, settings, prompt_of(meta, "flux_voc20"))
    for layer in range(5):
        relative(maps.text[f"vit-block{layer}"], stored[f"i2t_layer{layer}"])


def prompt_of(meta: Any, case: str) -> str:
    return meta[case]["prompt"]
