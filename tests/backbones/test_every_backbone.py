"""What holds for every backbone that can be loaded here. A new config joins by being found."""

from __future__ import annotations

from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from PIL import Image

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone, build_shape_only
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.loading.pretrained import PACKAGED
from segscale.backbones.text.conditioning import Conditioning
from segscale.catalogue import config_files
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt
from segscale.errors import UserError
from segscale.methods.build import method_defaults
from segscale.prompt import Prompt
from segscale.registry import load_config


def loadable() -> list[str]:
    """Backbones whose weights are on this machine: carried by the package, or a folder."""
    weights = {name: load_config("backbone", name)["weights"] for name in config_files("backbone")}
    return [name for name, source in weights.items() if source.startswith(PACKAGED) or Path(source).is_dir()]


@cache
def loaded(name: str) -> Backbone:
    return build_backbone(name)


every_backbone = pytest.mark.parametrize("name", loadable())
PROMPT = class_prompt(["star", "ring"], ["grass"])


def settings_of(backbone: Backbone) -> CaptureSettings:
    defaults = method_defaults(backbone.name)
    return CaptureSettings(defaults.image_size, Timestep(t=defaults.timestep))


def capture(backbone: Backbone, pixel_dtype: torch.dtype = torch.float32, image_id: str = "1") -> AttentionMaps:
    settings = settings_of(backbone)
    names = frozenset(site.name for site in backbone.sites(settings.image_size))
    image = Image.fromarray(make_scene(0, "val", 0).image)
    (noised,) = backbone.noised([image], settings, [image_generator(0, "test", image_id)])
    images, request = [PromptedImage(*noised, PROMPT)], MapRequest(names, names)
    return backbone.observe(images, request, settings.image_size, pixel_dtype)[0]


def capture_blank(backbone: Backbone, prompt: Prompt, request: MapRequest) -> AttentionMaps:
    settings = settings_of(backbone)
    (noised,) = backbone.noised([Image.new("RGB", (64, 64))], settings, [image_generator(0, "test", "1")])
    return backbone.observe([PromptedImage(*noised, prompt)], request, settings.image_size)[0]


@every_backbone
def test_sites_are_named_once_and_counted_in_execution_order(name: str) -> None:
    backbone = loaded(name)
    sites = backbone.sites(method_defaults(name).image_size)
    assert [site.layer for site in sites] == [*range(len(sites))]
    assert len({site.name for site in sites}) == len(sites)
    defaults = method_defaults(name)
    assert {*defaults.affinity_sites, defaults.reference_site} <= {site.name for site in sites}


@every_backbone
def test_modules_run_in_the_order_of_the_sites(name: str) -> None:
    backbone = loaded(name)
    ran: list[str] = []
    modules = [
        module
        for site in backbone.sites(method_defaults(name).image_size)
        for module in dict.fromkeys((site.pixel_module, site.text_module))
        if module
    ]
    handles = [
        backbone.denoiser.get_submodule(module).register_forward_pre_hook(lambda *_, module=module: ran.append(module))
        for module in modules
    ]
    capture(backbone)
    for handle in handles:
        handle.remove()
    assert ran == modules


@every_backbone
def test_maps_have_the_shape_of_their_site_and_are_shares_of_attention(name: str) -> None:
    backbone = loaded(name)
    maps = capture(backbone)
    length = sum(stream.length for stream in maps.tokens)
    for site in backbone.sites(method_defaults(name).image_size):
        total = torch.zeros(site.grid.pixels)
        if site.text_module:
            text = maps.text[site.name]
            assert text.shape[0] == site.grid.pixels
            assert text.shape[1] >= length
            total = total + text.sum(1)
        if site.pixel_module:
            pixels = maps.pixels[site.name]
            assert pixels.shape == (site.grid.pixels, site.grid.pixels)
            total = total + pixels.sum(1)
        expected = 2.0 if site.kind == "cross+self" else 1.0
        torch.testing.assert_close(total, torch.full_like(total, expected), atol=1e-4, rtol=0)


@every_backbone
def test_the_probe_leaves_the_denoiser_alone(name: str) -> None:
    backbone = loaded(name)
    settings = settings_of(backbone)
    level = backbone.noise_level(settings)
    image = Image.fromarray(make_scene(0, "val", 1).image)
    latent = backbone.encode_images([image], settings, [image_generator(0, "test", "1")])
    conditioning, timestep = backbone.conditioning([PROMPT.text]), torch.tensor([level.timestep])
    outputs: list[torch.Tensor] = []
    handle = backbone.denoiser.register_forward_hook(lambda module, arguments, output: outputs.append(output[0]))
    with torch.no_grad():
        backbone.denoise(latent, timestep, conditioning)
        names = frozenset(site.name for site in backbone.sites(settings.image_size))
        backbone.observe([PromptedImage(latent, level, PROMPT)], MapRequest(names, names), settings.image_size)
    handle.remove()
    plain, probed = outputs
    torch.testing.assert_close(probed, plain, atol=1e-5, rtol=1e-5)


@every_backbone
def test_equal_generators_give_equal_maps_whatever_ran_before(name: str) -> None:
    backbone = loaded(name)
    first = capture(backbone)
    other = capture(backbone, image_id="2")
    again = capture(backbone)
    for site, text in first.text.items():
        assert torch.equal(text, again.text[site])
        assert not torch.equal(text, other.text[site])


@every_backbone
def test_half_precision_pixel_maps_are_the_same_rounded(name: str) -> None:
    backbone = loaded(name)
    exact, half = capture(backbone).pixels, capture(backbone, torch.float16).pixels
    for site, pixels in exact.items():
        assert torch.equal(pixels.half(), half[site])


@every_backbone
def test_each_word_has_its_columns_and_special_tokens_none(name: str) -> None:
    backbone = loaded(name)
    for stream in backbone.tokenize(PROMPT):
        columns = [c for word in (*stream.classes, *stream.background) for c in word]
        assert len(columns) == 3
        assert not set(columns) & set(stream.special)
        assert not stream.cut


@every_backbone
def test_a_class_beyond_the_text_encoder_is_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    backbone = loaded(name)
    lengths = [stream.length for stream in backbone.tokenize(PROMPT)]
    filler = "a " * max(lengths)
    prompt = class_prompt([filler.strip(), "ring"])
    site = frozenset([backbone.sites(method_defaults(name).image_size)[0].name])
    maps = capture_blank(backbone, prompt, MapRequest(site))
    assert not any(stream.classes[1] for stream in maps.tokens)
    assert "ring" in caplog.text


@every_backbone
def test_an_unknown_site_is_named(name: str) -> None:
    backbone = loaded(name)
    with pytest.raises(UserError, match=f"{name} has no site 'nowhere'"):
        capture_blank(backbone, PROMPT, MapRequest(frozenset(["nowhere"])))


@every_backbone
def test_untrained_weights_differ_and_are_the_same_every_time(name: str) -> None:
    first, second = (build_backbone(name, untrained=True).denoiser.state_dict() for _ in range(2))
    trained = loaded(name).denoiser.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], trained[key]) for key in first)


@every_backbone
def test_the_denoiser_gets_what_its_own_pipeline_gives_it(name: str) -> None:
    """Text states, pooled vectors, masks, time ids, position ids and guidance, from diffusers' own sampling loop."""
    backbone = loaded(name)
    size = method_defaults(name).image_size
    seen: list[dict[str, torch.Tensor]] = []

    def record(module: torch.nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        flat = keywords | {
            key: value for value in keywords.values() if isinstance(value, dict) for key, value in value.items()
        }
        seen.append({key: value for key, value in flat.items() if isinstance(value, torch.Tensor)})

    handle = backbone.denoiser.register_forward_pre_hook(record, with_kwargs=True)
    accepted = signature(backbone.pipeline.__call__).parameters
    arguments = {"max_sequence_length": backbone.tokenize(PROMPT)[-1].length, "use_resolution_binning": False}
    backbone.pipeline(
        PROMPT.text,
        height=size,
        width=size,
        num_inference_steps=2,
        guidance_scale=getattr(backbone, "guidance", 1.0),
        output_type="latent",
        **{key: value for key, value in arguments.items() if key in accepted},
    )
    pipeline_inputs = seen[0]
    seen.clear()
    capture(backbone)
    handle.remove()
    varying = {"hidden_states", "sample", "timestep"}
    compared = (seen[0].keys() & pipeline_inputs.keys()) - varying
    assert seen[0].keys() - varying == compared
    assert "encoder_hidden_states" in compared
    for key in compared:
        torch.testing.assert_close(seen[0][key].float(), pipeline_inputs[key].float(), msg=f"{key} differs")


def test_a_pixart_whose_config_leaves_its_conditions_open_decides_by_its_size() -> None:
    backbone = build_shape_only("pixart-sigma")
    config = {**backbone.denoiser_config, "sample_size": 128, "num_layers": 1, "use_additional_conditions": None}
    with torch.device("meta"):
        alpha: Any = PixArtTransformer2DModel.from_config(config)
    backbone.pipeline.transformer = alpha
    assert alpha.config["use_additional_conditions"] is None
    conditioning = Conditioning({"encoder_hidden_states": torch.empty(1, 9, 4096, device="meta")}, 9)
    latent = torch.empty(1, 4, 128, 128, device="meta")
    assert backbone.denoise(latent, torch.full((1,), 500.0, device="meta"), conditioning).shape == latent.shape
