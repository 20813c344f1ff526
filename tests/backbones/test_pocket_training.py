from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from segscale.backbones.build import build_backbone
from segscale.backbones.loading.pretrained import resolve_weights
from segscale.backbones.pocket import direct_masks, train
from segscale.backbones.pocket.architectures import TWINS
from segscale.backbones.pocket.autoencoder import build_autoencoder, train_autoencoder
from segscale.backbones.pocket.scenes import scene_batch
from segscale.catalogue import config_files
from segscale.datasets.pocket import make_scene

WEIGHTS = Path(resolve_weights("pocket:pocket-sd15")).parent


def test_every_twin_has_a_config_and_is_small() -> None:
    assert {*TWINS, direct_masks.NAME} == {name for name in config_files("backbone") if name.startswith("pocket-")}
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 45e6


@pytest.mark.parametrize("name", TWINS)
def test_two_steps_of_training_change_the_denoiser_and_leave_a_loadable_twin(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "TRAIN_SCENES", 100)
    monkeypatch.setattr(train, "BATCH", 2)
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "pocket-sd15" / "vae", torch_dtype=torch.float32)
    states = []
    for _ in range(2):
        train.make_twin(name, tmp_path, vae.float(), steps=2)
        states.append(build_backbone(name, weights=str(tmp_path / name)).denoiser.state_dict())
    first, again = states
    untrained = build_backbone(name, weights=str(tmp_path / name), untrained=True).denoiser.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], untrained[key].half().float()) for key in first)


def test_the_autoencoder_trains_and_scales_its_latents() -> None:
    vae = train_autoencoder(steps=2)
    images, _ = scene_batch(range(8))
    latents = vae.encode(images).latent_dist.mean
    assert latents.shape == (8, 4, 16, 16)
    assert vae.config["scaling_factor"] > 0
    before = dict(build_autoencoder().named_parameters())
    assert any(not torch.equal(parameter, before[name]) for name, parameter in vae.named_parameters())


def test_the_shipped_autoencoder_keeps_the_scenes() -> None:
    vae = train.shared_autoencoder(WEIGHTS)
    images = torch.stack([torch.from_numpy(make_scene(0, "val", i).image) for i in range(16)])
    images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images).latent_dist.mean).sample
    psnr = 10 * np.log10(4 / (decoded - images).square().mean().item())
    assert psnr > 22


def test_training_captions_name_the_scene_in_several_ways() -> None:
    scene, rng = make_scene(0, "train", 1), np.random.default_rng(0)
    captions = {train.training_caption(scene, rng) for _ in range(200)}
    assert "" in captions
    assert all(word in caption for caption in captions if caption for word in (*scene.objects, scene.ground))
    assert any(", " in caption for caption in captions)
    assert any(caption and ", " not in caption for caption in captions)
