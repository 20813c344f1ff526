"""Wan's transformer with masks beside pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.loading.autoencoder import load_autoencoder
from segscale.backbones.wan import WanMasks
from segscale.bench.training.direct_mask_twin import untrained_twin
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import one_thing_prompt

MASKS = CaptureSettings(64, Timestep(t=1000), posterior="mean", drawn="mask")
IMAGES = [Image.fromarray(make_scene(0, "val", index).image) for index in range(2)]
STAR = one_thing_prompt("star")


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> WanMasks:
    return untrained_twin(load_autoencoder("pocket"), tmp_path_factory.mktemp("twin") / "pocket-genmask")


def noised(twin: WanMasks, name: str = "a") -> list[PromptedImage]:
    generators = [image_generator(0, name, str(index)) for index in range(len(IMAGES))]
    return [PromptedImage(*each, STAR) for each in twin.noised(IMAGES, MASKS, generators)]


def test_a_mask_of_pure_noise_stands_beside_the_clean_picture(twin: WanMasks) -> None:
    first, other = noised(twin)[0], noised(twin, "b")[0]
    assert first.noised.shape == (1, 4, 2, 16, 16)
    assert (first.level.signal, first.level.noise, first.level.timestep) == (0, 1, 1000)
    plain = CaptureSettings(64, Timestep(t=1000), posterior="mean")
    clean = twin.encode_images(IMAGES[:1], plain, [image_generator(0, "a", "0")])
    torch.testing.assert_close(first.noised[:, :, 0], clean, atol=1e-4, rtol=0)
    assert torch.equal(first.drawn, first.noised[:, :, 1])
    assert torch.equal(first.noised[:, :, 0], other.noised[:, :, 0])
    assert not torch.equal(first.drawn, other.drawn)
    assert first.drawn.std().item() == pytest.approx(1, abs=0.1)


def test_tokens_of_the_picture_are_modulated_at_time_0_and_its_velocity_is_not_given(twin: WanMasks) -> None:
    seen: list[torch.Tensor] = []
    handle = twin.denoiser.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    latent = torch.cat([image.noised for image in noised(twin)])
    with torch.no_grad():
        velocity = twin.denoise(latent, torch.tensor([700.0, 300.0]), twin.conditioning([STAR.text] * 2))
    handle.remove()
    assert velocity.shape == (2, 4, 16, 16)
    (times,) = seen
    tokens = twin.grid(64).pixels
    assert times.shape == (2, 2 * tokens)
    assert (times[:, :tokens] == 0).all()
    assert times[:, tokens:].unique(dim=1).tolist() == [[700.0], [300.0]]


def test_the_mask_reads_the_picture_and_the_text(twin: WanMasks) -> None:
    latent, timestep = noised(twin)[0].noised, torch.tensor([1000.0])
    other = latent.clone()
    other[:, :, 0] = noised(twin)[1].noised[:, :, 0]
    with torch.no_grad():
        own = twin.denoise(latent, timestep, twin.conditioning(["a star"]))
        assert not torch.allclose(own, twin.denoise(other, timestep, twin.conditioning(["a star"])), atol=1e-4)
        assert not torch.allclose(own, twin.denoise(latent, timestep, twin.conditioning(["a ring"])), atol=1e-4)


def test_the_picture_of_a_forward_is_the_decoded_mask(twin: WanMasks) -> None:
    images = noised(twin)
    pictures = [maps.picture for maps in twin.observe(images, MapRequest(picture=True), 64)]
    for image, picture in zip(images, pictures, strict=True):
        with torch.no_grad():
            velocity = twin.denoise(image.noised, torch.tensor([1000.0]), twin.conditioning([STAR.text]))
            shift, scale = twin.vae.config["shift_factor"], twin.vae.config["scaling_factor"]
            decoded = twin.vae.decode((image.drawn - velocity) / scale + shift).sample.clamp(-1, 1)
        assert picture is not None
        torch.testing.assert_close(picture[None], decoded, atol=1e-4, rtol=0)


def test_padding_of_prompts_is_zero_and_relations_are_words(twin: WanMasks) -> None:
    states = twin.encode_text(["a star", "the left star"]).inputs["encoder_hidden_states"]
    assert states.shape == (2, 16, 64)
    assert (states[0, 3:] == 0).all()
    assert (states[0, :3].abs().sum(1) > 0).all()
    tokens = twin.pipeline.tokenizer.tokenize("the left star, the larger ring")
    assert tokens == ["\u2581the", "\u2581left", "\u2581star", ",", "\u2581the", "\u2581larger", "\u2581ring"]


def test_pictures_are_generated_alike_from_equal_generators(twin: WanMasks) -> None:
    def picture(prompt: str, seed: int) -> bytes:
        made = twin.pipeline(prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(seed))
        assert made.images[0].size == (64, 64)
        return made.images[0].tobytes()

    assert picture("a star", 1) == picture("a star", 1)
    assert picture("a star", 1) != picture("a star", 2)
    assert picture("a star", 1) != picture("a ring", 1)


def test_the_folder_is_loaded_again_as_it_was_saved(twin: WanMasks, tmp_path: Path) -> None:
    twin.pipeline.save_pretrained(tmp_path)
    again = build_backbone("pocket-genmask", weights=str(tmp_path))
    for name, tensor in twin.denoiser.state_dict().items():
        assert torch.equal(tensor, again.denoiser.state_dict()[name])
