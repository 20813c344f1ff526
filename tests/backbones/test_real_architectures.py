"""Every backbone whose config states its published architecture, built without weights."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.sites import Site
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.loading.options import LoadOptions
from segscale.catalogue import config_files
from segscale.datasets.prompts.described import class_prompt
from segscale.methods.build import build_method, method_defaults
from segscale.registry import load_config

from ..architectures import shape_only

REAL = [name for name in config_files("backbone") if "architecture" in load_config("backbone", name)]
PROMPT = class_prompt(["star", "ring"], ["grass"])

# Parameters of the denoiser (millions) and sites, as published or counted in the published weights.
FACTS = {
    "sd15": (859.5, 16),
    "sdxl": (2567.5, 70),
    "sdxl-turbo": (2567.5, 70),
    "pixart-sigma": (610.9, 28),
    "pixart-sigma-512": (610.9, 28),
    "sd3": (2028.3, 24),
    "sd35": (2243.2, 24 + 13),
    "sd35-large": (8056.6, 38),
    "flux": (11901.4, 57),
    "flux-schnell": (11891.2, 57),
    "flux-seg4diff": (11901.4, 57),
}
TEXT_COLUMNS = {
    **dict.fromkeys(("sd15", "sdxl", "sdxl-turbo", "flux-seg4diff"), 77),
    **dict.fromkeys(("pixart-sigma", "pixart-sigma-512"), 300),
    **dict.fromkeys(("sd3", "sd35", "sd35-large"), 154),
    "flux": 512,
    "flux-schnell": 256,
}


@pytest.mark.parametrize("name", REAL)
def test_the_whole_path_has_the_right_shapes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # transformers looks into a mask's values to skip it; meta tensors have none.
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False)
    backbone = shape_only(name)
    parameters = sum(p.numel() for p in backbone.denoiser.parameters()) / 1e6
    method = build_method("vanilla", name)
    sites = backbone.sites(method.settings.image_size)
    assert (round(parameters, 1), len(sites)) == FACTS[name]
    names = frozenset(site.name for site in sites)
    defaults = method_defaults(name)
    assert {*defaults.affinity_sites, defaults.reference_site} <= names
    image = Image.new("RGB", (300, 200))
    noised = backbone.noised([image], method.settings, [image_generator(0, "test", "1")])[0]
    request = MapRequest(names, names)
    (maps,) = backbone.observe([PromptedImage(*noised, PROMPT)], request, method.settings.image_size)
    columns = TEXT_COLUMNS[name]
    for site in sites:
        if site.text_module:
            assert maps.text[site.name].shape == (site.grid.pixels, columns)
        if site.pixel_module:
            assert maps.pixels[site.name].shape == (site.grid.pixels, site.grid.pixels)
            assert maps.pixels[site.name].dtype == torch.float16
    scores = method(maps.only(method.request(sites)))
    assert scores.classes.shape == (2, defaults.feature_size, defaults.feature_size)


@pytest.mark.parametrize("name", REAL)
def test_every_preset_names_sites_that_exist(name: str) -> None:
    backbone = shape_only(name)
    for method_name in config_files("method"):
        method = build_method(method_name, name)
        sites = backbone.sites(method.settings.image_size)
        request = method.request(sites)
        assert request.text | request.pixels <= {site.name for site in sites}


def test_goca_names_of_the_real_sites() -> None:
    def names(backbone: str) -> dict[str, Site]:
        built = shape_only(backbone)
        return {site.name: site for site in built.sites(method_defaults(backbone).image_size)}

    sd15 = names("sd15")
    assert [*sd15][:7] == [
        *(f"down-level{level}-repeat{repeat}-vit-block0" for level in range(3) for repeat in range(2)),
        "mid-vit-block0",
    ]
    assert [site.grid.height for site in sd15.values()] == [64, 64, 32, 32, 16, 16, 8, *[16] * 3, *[32] * 3, *[64] * 3]
    sdxl = names("sdxl")
    assert sdxl["up-level1-repeat2-vit-block1"].grid.height == 64
    assert sdxl["mid-vit-block9"].grid.height == 32
    assert names("flux")["vit-block19"].text_module == "single_transformer_blocks.0.attn"
    assert names("sd35")["vit-block3-dual"].kind == "self"


def test_sd3_with_t5_has_two_text_streams_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False)
    backbone = build_backbone("sd3", LoadOptions(source="meta"), with_t5=True, t5_tokens=256)
    clip, t5 = backbone.tokenize(PROMPT)
    assert (clip.offset, clip.length, t5.offset, t5.length) == (0, 77, 77, 256)
    assert all(77 <= column < 77 + 256 for word in t5.classes for column in word)
    settings = build_method("vanilla", "sd3").settings
    request = MapRequest(text=frozenset(["vit-block9"]))
    noised = backbone.noised([Image.new("RGB", (64, 64))], settings, [image_generator(0, "test", "1")])[0]
    (maps,) = backbone.observe([PromptedImage(*noised, PROMPT)], request, settings.image_size)
    assert maps.text["vit-block9"].shape == (64 * 64, 77 + 256)
