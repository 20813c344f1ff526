"""Seg4Diff from the image to class maps, against its official code on the tiny SD3 and the tiny Flux."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.sites import Grid, Site
from segscale.backbones.backbone import Backbone
from segscale.backbones.flux import Flux
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.images import pixel_values
from segscale.backbones.sd3 import StableDiffusion3
from segscale.backbones.text.tokens import StreamTokens
from segscale.datasets.prompts.described import names_prompt
from segscale.methods.seg4diff import Seg4Diff
from segscale.methods.seg4diff_unsupervised import Seg4DiffUnsupervised
from segscale.prompt import Prompt

CASES = ["voc20", "coco_object", "ade150", "cityscapes", "ade150_long"]
NORMALISATIONS = [(before, after) for before in (False, True) for after in (False, True)]
REQUIRED = {"image_size": 256, "attention": "joint", "grounding_sites": ("vit-block9",)}
FLUX = {"steps": 50, "pixel_range": "unit", "shift_by": "latent-channels"}


@pytest.fixture(scope="module")
def oracle(seg4diff_parity: Path) -> Path:
    return seg4diff_parity / "oracle"


@pytest.fixture(scope="module")
def sd3(seg4diff_parity: Path) -> Backbone:
    folder = str(seg4diff_parity / "tiny-sd3")
    return StableDiffusion3(name="tiny", weights=folder, t5_tokens=77, with_t5=False)


@pytest.fixture(scope="module")
def flux(seg4diff_parity: Path) -> Backbone:
    folder = str(seg4diff_parity / "tiny-flux")
    return Flux(name="tiny", weights=folder, text_tokens=77, guidance=3.5)


def capture(backbone: Backbone, method: Seg4Diff, oracle: Path, facts: dict[str, Any]) -> AttentionMaps:
    """Maps of a case's image under its prompt, with the oracle's noise."""
    prompt = names_prompt(facts["classnames"], method.prompt_rule.location)
    assert prompt.text == facts["prompt"]
    image = Image.open(oracle.parent / "inputs" / facts["image"])
    latent = backbone.encode_images([image], method.settings, [torch.Generator()])
    level = backbone.noise_level(method.settings)
    noised = level.mix(latent, torch.from_numpy(np.load(oracle.parent / "inputs" / "noise.npy")))
    request = method.request(backbone.sites(256))
    return backbone.observe([PromptedImage(noised, level, prompt)], request, 256)[0]


def close(actual: Tensor, expected: Any) -> None:
    """Within 1e-4 of the largest value, as the oracle's tolerance says."""
    largest = float(np.nanmax(np.abs(expected)))
    torch.testing.assert_close(actual, torch.from_numpy(expected), atol=1e-4 * largest, rtol=0, equal_nan=True)


@pytest.mark.parametrize(("before", "after"), NORMALISATIONS)
@pytest.mark.parametrize("case", CASES)
def test_sd3_class_maps(case: str, before: bool, after: bool, sd3: Backbone, oracle: Path) -> None:
    facts = json.loads((oracle / "meta.json").read_text())[f"sd3_{case}"]
    stored = np.load(oracle / f"sd3_{case}.npz")
    method = Seg4Diff(name="seg4diff", **REQUIRED, normalise_words=before, normalise_classes=after)
    maps = capture(sd3, method, oracle, facts)
    counts = [len(columns) for columns in maps.tokens[0].classes]
    if case != "ade150_long":
        assert counts == facts["num_tokens"] == stored["num_tokens"].tolist()
    close(method(maps).classes, stored[f"merged_nb{before:d}na{after:d}"])


@pytest.mark.parametrize(("before", "after"), NORMALISATIONS)
@pytest.mark.parametrize("case", CASES)
def test_flux_class_maps(case: str, before: bool, after: bool, flux: Backbone, oracle: Path) -> None:
    facts = json.loads((oracle / "meta.json").read_text())[f"flux_{case}"]
    stored = np.load(oracle / f"flux_{case}.npz")
    for chosen, suffix in [([i], f"layer{i}") for i in range(5)] + [([*range(5)], "mean")]:
        key = f"merged_nb{before:d}na{after:d}_{suffix}"
        if key not in stored:
            continue
        sites = [f"vit-block{i}" for i in chosen]
        choices = {"normalise_words": before, "normalise_classes": after, **FLUX}
        method = Seg4Diff(name="seg4diff", **REQUIRED | {"grounding_sites": tuple(sites), **choices})
        close(method(capture(flux, method, oracle, facts)).classes, stored[key])


def test_layers_are_averaged_and_heads_can_be_read_alone(sd3: Backbone, oracle: Path) -> None:
    facts = json.loads((oracle / "meta.json").read_text())["sd3_voc20"]
    stored = np.load(oracle / "sd3_voc20_layers.npz")

    def columns(maps: AttentionMaps, method: Seg4Diff) -> Tensor:
        words = [list(word) for word in maps.tokens[0].classes]
        return torch.stack([method(maps).classes.flatten(1)[i] for i in range(len(words))])

    def merged(i2t: Any, maps: AttentionMaps) -> Any:
        return np.stack([i2t[:, list(word)].mean(1) for word in maps.tokens[0].classes])

    sites = ["vit-block8", "vit-block9", "vit-block10"]
    method = Seg4Diff(name="seg4diff", **REQUIRED | {"grounding_sites": tuple(sites)})
    maps = capture(sd3, method, oracle, facts)
    close(columns(maps, method), merged(stored["i2t_mean_layers_8_9_10"], maps))
    for head in range(3):
        method = Seg4Diff(name="seg4diff", **REQUIRED, head=head)
        maps = capture(sd3, method, oracle, facts)
        close(columns(maps, method), merged(stored["i2t_heads_layer9"][head], maps))


def maps_of(text: Tensor, classes: list[list[int]], background: list[list[int]]) -> AttentionMaps:
    columns = (tuple(map(tuple, classes)), tuple(map(tuple, background)))
    site = Site("vit-block9", 0, 1, Grid(4, 4), "attn", "attn")
    tokens = (StreamTokens("clip", 0, text.shape[1], *columns, special=(), cut=()),)
    return AttentionMaps({"vit-block9": site}, tokens, {"vit-block9": text})


def test_background_words_compete_with_their_strongest_map() -> None:
    text = torch.rand(16, 6, generator=torch.Generator().manual_seed(0))
    method = Seg4Diff(name="seg4diff-described", **REQUIRED, reading="described")
    scores = method(maps_of(text, [[1]], [[2], [3, 4]]))
    torch.testing.assert_close(scores.background.flatten(), torch.maximum(text[:, 2], text[:, 3:5].mean(1)))
    assert not method(maps_of(text, [[1]], [])).background.any()


@pytest.mark.parametrize("safe_division", [False, True])
def test_a_class_cut_off_the_prompt_is_nan_unless_divided_safely(safe_division: bool) -> None:
    text = torch.rand(16, 6, generator=torch.Generator().manual_seed(0))
    scores = Seg4Diff(name="seg4diff", **REQUIRED, safe_division=safe_division)(maps_of(text, [[1], []], []))
    assert scores.classes[1].isnan().all() != safe_division
    assert bool(scores.classes[0].isnan().any()) is False


def test_published_prompts_are_names_and_described_ones_are_the_protocols() -> None:
    published = Seg4Diff(name="seg4diff", **REQUIRED)
    described = Seg4Diff(name="seg4diff-described", **REQUIRED, reading="described")
    assert (published.prompt_rule.text, published.prompt_rule.location) == ("names", "counted")
    assert (described.prompt_rule.text, described.prompt_rule.location) == ("described", "span")


@pytest.mark.parametrize("case", ["a", "b"])
def test_unsupervised_masks_from_the_image(case: str, sd3: Backbone, oracle: Path) -> None:
    stored = np.load(oracle / f"sd3_unsup_{case}.npz")
    method = Seg4DiffUnsupervised(name="seg4diff-masks", **REQUIRED)
    image = Image.open(oracle.parent / "inputs" / f"image_{case}.png")
    torch.testing.assert_close(
        pixel_values(image, method.settings), torch.from_numpy(stored["vae_input"]), atol=0, rtol=0
    )
    latent = sd3.encode_images([image], method.settings, [torch.Generator()])
    level = sd3.noise_level(method.settings)
    noised = level.mix(latent, torch.from_numpy(np.load(oracle.parent / "inputs" / "noise.npy")))
    (maps,) = sd3.observe([PromptedImage(noised, level, Prompt("", ()))], method.request(sd3.sites(256)), 256)
    close(maps.text["vit-block9"][:, :77], stored["i2t"])
    found = method(maps).classes
    assert len(found) == len(stored["merged_0p1"])
    close(found, stored["merged_0p1"])
