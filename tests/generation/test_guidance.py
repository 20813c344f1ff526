from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.sites import Grid, Site
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import DenoiserInput
from segscale.backbones.text.conditioning import Conditioning
from segscale.backbones.text.tokens import StreamTokens
from segscale.bench.generation.choices import GuidanceMethod, GuidanceReading, SamplingChoices
from segscale.bench.generation.guidance import ClassifierFree, GuidedStep
from segscale.bench.generation.prompts import PicturePrompt
from segscale.bench.generation.rates import Segments, guidance_rates, smoothed
from segscale.bench.generation.record import SamplingSettings
from segscale.bench.generation.rules import PerturbedGuidance, SegmentGuidance, guidance_rule
from segscale.bench.generation.sampling import draw
from segscale.bench.generation.segments import GocaSegmenter, ScfgSegmenter, content_words, segmenter
from segscale.bench.generation.settings import sampling_settings
from segscale.errors import UserError
from segscale.methods.build import method_defaults
from segscale.methods.rescaling import blur
from segscale.prompt import Prompt

from ..architectures import shape_only

PROMPTS = [PicturePrompt("a", "grass, a star"), PicturePrompt("b", "sand, a ring, a ball")]
METHODS: tuple[GuidanceMethod, ...] = get_args(GuidanceMethod)


def settings_of(name: str, method: GuidanceMethod, **choices: object) -> SamplingSettings:
    chosen: dict[str, object] = {"steps": 2, "guidance": 3.0, "guidance_method": method} | choices
    return sampling_settings(name, SamplingChoices(**chosen))  # type: ignore[arg-type]


def pixels(backbone: Backbone, settings: SamplingSettings, prompts: Sequence[PicturePrompt] = PROMPTS) -> np.ndarray:
    drawn = draw(backbone, prompts, settings, guidance_rule(settings, backbone))
    return np.stack([np.asarray(picture, int) for picture in drawn])


def rates_pixel_by_pixel(
    difference: np.ndarray, region: np.ndarray, foreground: np.ndarray, scale: float
) -> np.ndarray:
    """S-CFG's rates once more, from the formula of docs/guidance.md, without a tensor library."""
    _, height, width = difference.shape
    norm = np.array([[math.sqrt(sum(v * v for v in difference[:, y, x])) for x in range(width)] for y in range(height)])
    inside = [norm[y, x] for y in range(height) for x in range(width) if foreground[y, x]]
    goal = sum(inside) / (len(inside) + 1e-8)
    rates = np.empty_like(norm)
    for y in range(height):
        for x in range(width):
            same = [norm[v, u] for v in range(height) for u in range(width) if region[v, u] == region[y, x]]
            rate = goal / (sum(same) / (len(same) + 1e-8) + 1e-8)
            rates[y, x] = min(min(max(rate, 0.8), 3.0), 15 / scale)
    kernel = [math.exp(-2.0), 1.0, math.exp(-2.0)]
    total = sum(kernel) ** 2
    reflect = [[1, *range(side), side - 2] for side in (height, width)]
    return np.array(
        [
            [
                sum(
                    kernel[i] * kernel[j] * rates[reflect[0][y + i], reflect[1][x + j]]
                    for i in range(3)
                    for j in range(3)
                )
                / total
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


@pytest.mark.parametrize("scale", [2.0, 7.5, 10.0])
def test_rates_on_given_maps_are_those_of_a_second_implementation(scale: float) -> None:
    rng = np.random.default_rng(0)
    region, foreground = rng.integers(0, 5, (6, 5)), rng.random((6, 5)) < 0.4
    # The rates of two regions pass the ends of what is allowed.
    difference = rng.normal(size=(4, 6, 5)) * np.array([1, 1.2, 0.8, 6, 0.1])[region]
    segments = Segments(torch.from_numpy(region), torch.from_numpy(foreground))
    ours = guidance_rates(torch.from_numpy(difference).float(), segments, scale)
    np.testing.assert_allclose(ours, rates_pixel_by_pixel(difference, region, foreground, scale), rtol=1e-4)
    norm = np.linalg.norm(difference, axis=0)
    means = [norm[foreground].mean() / norm[region == token].mean() for token in range(5)]
    assert min(means) < 0.7
    assert max(means) > 6


def test_even_rates_stay_and_others_are_smoothed_near_their_border_alone() -> None:
    for rate in (1.0, 0.8, 1.3):
        even = torch.full((7, 9), rate)
        assert torch.equal(smoothed(even), even) or float((smoothed(even) - even).abs().max()) < 1e-6
    assert torch.equal(smoothed(torch.ones(7, 9)), torch.ones(7, 9))
    step = torch.ones(8, 8)
    step[:, 4:] = 2
    after = smoothed(step)
    assert ((after == step).all(0) | torch.tensor([3 <= x <= 4 for x in range(8)])).all()


def test_a_difference_of_even_strength_needs_no_rates() -> None:
    difference = torch.ones(4, 6, 6)
    region = torch.arange(36).view(6, 6) % 5
    rates = guidance_rates(difference, Segments(region, region == 1), 3.0)
    torch.testing.assert_close(rates, torch.ones(6, 6))


def test_s_cfg_asks_no_block_without_text_for_maps() -> None:
    sites = shape_only("sd35").sites(1024)
    assert any(site.pixel_module is not None and site.text_module is None for site in sites)
    request = ScfgSegmenter("published").request(sites, Grid(128, 128))
    assert request.pixels == request.text


@pytest.mark.parametrize(("name", "side", "read"), [("sd15", 64, {16, 8}), ("sdxl", 128, {32}), ("sd3", 128, {64})])
def test_s_cfg_reads_the_grids_of_its_code_where_a_backbone_has_them(name: str, side: int, read: set[int]) -> None:
    sites = shape_only(name).sites(8 * side)
    grids = {site.name: site.grid.height for site in sites if site.text_module is not None}
    for reading, wanted in (("published", read), ("described", {*grids.values()})):
        asked = ScfgSegmenter(reading).request(sites, Grid(side, side)).text
        assert asked == {name for name, height in grids.items() if height in wanted}


class Even(SegmentGuidance):
    """All rates are 1."""

    def rates(self, step: GuidedStep, row: int, difference: Tensor) -> Tensor:
        return torch.ones_like(difference[0])


@pytest.mark.parametrize("name", ["pocket-sd15", "pocket-sd3"])
def test_guidance_with_all_rates_1_is_plain_guidance_bit_for_bit(name: str) -> None:
    backbone = build_backbone(name)
    settings = settings_of(name, "s-cfg")
    rule = Even(settings.guidance, ScfgSegmenter("published"))
    seen: list[Tensor] = []

    class Comparing(Even):
        def __call__(self, step: GuidedStep) -> Tensor:
            ours, plain = super().__call__(step), ClassifierFree(self.scale)(step)
            assert torch.equal(ours, plain)
            seen.append(ours)
            return ours

    draw(backbone, PROMPTS, settings, Comparing(rule.scale, rule.segmenter))
    assert len(seen) >= 2


@pytest.mark.parametrize("name", ["pocket-sd15", "pocket-sd3", "pocket-flux", "pocket-pixart-sigma"])
def test_every_method_draws_on_every_backbone_and_no_two_draw_the_same(name: str) -> None:
    backbone = build_backbone(name)
    drawn = {method: pixels(backbone, settings_of(name, method)) for method in METHODS}
    for one in METHODS:
        assert drawn[one].std() > 10
        assert not [other for other in METHODS if other != one and np.array_equal(drawn[one], drawn[other])]


def test_a_picture_depends_on_no_other_of_its_batch() -> None:
    backbone = build_backbone("pocket-sd15")
    for method in ("s-cfg", "goca-s-cfg", "perturbed"):
        settings = settings_of("pocket-sd15", method, steps=2)
        together, alone = pixels(backbone, settings), pixels(backbone, settings, PROMPTS[1:])
        assert np.abs(together[1:] - alone).mean() <= 1


def test_readings_differ() -> None:
    backbone = build_backbone("pocket-sd15")
    for method in ("s-cfg", "goca-s-cfg"):
        published = pixels(backbone, settings_of("pocket-sd15", method))
        described = pixels(backbone, settings_of("pocket-sd15", method, guidance_reading="described"))
        assert not np.array_equal(published, described)


def test_a_blur_of_no_width_perturbs_nothing() -> None:
    backbone = build_backbone("pocket-sd3")
    conditional = pixels(backbone, settings_of("pocket-sd3", "cfg", guidance=1.0))
    plain = pixels(backbone, settings_of("pocket-sd3", "cfg"))
    nothing = settings_of("pocket-sd3", "perturbed", guidance_width=0.0)
    assert np.abs(pixels(backbone, nothing) - conditional).max() <= 1
    undamaged = settings_of("pocket-sd3", "blurred-block", guidance_width=0.0)
    assert np.abs(pixels(backbone, undamaged) - plain).max() <= 1
    unguided = replace(settings_of("pocket-sd3", "perturbed"), guidance=1.0)
    assert np.array_equal(pixels(backbone, unguided), conditional)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_does_nothing_at_its_scale_is_refused(method: GuidanceMethod) -> None:
    for name, choices in {"pocket-sd3": {"guidance": 1.0}, "flux": {"guidance": None, "steps": None}}.items():
        if method in ("cfg", "blurred-block"):
            assert settings_of(name, method, **choices).guidance == 1
        else:
            with pytest.raises(UserError, match=rf"{method} does nothing at a guidance of 1; name a scale above 1"):
                settings_of(name, method, **choices)


def test_perturbed_guidance_leads_away_from_the_perturbed_prediction() -> None:
    backbone = build_backbone("pocket-sd3")
    settings = settings_of("pocket-sd3", "perturbed")

    class Looking(PerturbedGuidance):
        def __call__(self, step: GuidedStep) -> Tensor:
            ours, perturbed = super().__call__(step), self.perturbed(step)
            torch.testing.assert_close(ours, step.conditional + 2.0 * (step.conditional - perturbed))
            assert not torch.equal(perturbed, step.conditional)
            return ours

    (site,) = (site for site in backbone.sites(64) if site.name == settings.site == "vit-block4")
    draw(backbone, PROMPTS, settings, Looking(3.0, backbone, site, 0.1))
    with pytest.raises(UserError, match="no site 'vit-block99'"):
        guidance_rule(replace(settings, site="vit-block99"), backbone)


def stream(special: tuple[int, ...], offset: int = 0, length: int = 6) -> StreamTokens:
    return StreamTokens("clip", offset, length, (), (), special, ())


def test_every_token_of_the_prompt_is_a_word_of_its_own_and_special_ones_are_none() -> None:
    first, second = content_words([stream((0, 3, 4, 5)), stream((8, 9, 10, 11), offset=6)])
    assert first.classes == ((1,), (2,), (), ())
    assert second.classes == ((), (), (6,), (7,))


def scfg_maps(sites: dict[str, Site], seed: int) -> AttentionMaps:
    """Random attention of the sites, six tokens, the first of which is special."""
    generator = torch.Generator().manual_seed(seed)

    def attention(rows: int, columns: int) -> Tensor:
        return torch.rand(rows, columns, generator=generator).softmax(-1)

    text = {name: attention(site.grid.pixels, 6) for name, site in sites.items()}
    pixels = {name: attention(site.grid.pixels, site.grid.pixels) for name, site in sites.items() if site.pixel_module}
    return AttentionMaps(sites, (stream((0, 4, 5)),), text=text, pixels=pixels)


def spread_words(maps: AttentionMaps, name: str, reading: GuidanceReading, side: int = 6) -> np.ndarray:
    """S' C of a site, smoothed pixel by pixel, ``(6, side, side)``; the formula of docs/guidance.md once more."""
    words, grid = maps.text[name].numpy(), maps.sites[name].grid
    if name in maps.pixels:
        one = maps.pixels[name].numpy()
        powers = [one, one @ one, one @ one @ one, one @ one @ one @ one]
        words = (one + 3 * powers[1] if reading == "published" else sum(powers)) @ words / 4
    small = torch.from_numpy(words.T.reshape(1, 6, grid.height, grid.width))
    large = torch.nn.functional.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)[0].numpy()
    kernel = np.exp(-2.0 * np.array([1, 0, 1]))
    reflected = np.pad(large, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    smooth = sum(
        kernel[i] * kernel[j] * reflected[:, i : i + side, j : j + side] / kernel.sum() ** 2
        for i in range(3)
        for j in range(3)
    )
    return np.asarray(smooth)


@pytest.mark.parametrize("reading", get_args(GuidanceReading))
def test_segments_of_s_cfg_are_those_of_its_formula(reading: GuidanceReading) -> None:
    """Two sites of one size, one of another, and one that attends to text alone."""
    sites = {
        "a": Site("a", 0, 4, Grid(6, 6), "a", "b"),
        "b": Site("b", 1, 4, Grid(6, 6), "c", "d"),
        "c": Site("c", 2, 4, Grid(3, 3), "e", "f"),
        "d": Site("d", 3, 4, Grid(6, 6), "g", None),
    }
    given, free = scfg_maps(sites, 0), scfg_maps(sites, 1)
    segments = ScfgSegmenter(reading)(given, free, Grid(6, 6))
    each = [spread_words(given, name, reading) for name in sites]
    total = np.mean([words / words.mean((1, 2), keepdims=True) for words in each], axis=0)
    np.testing.assert_array_equal(segments.region, total.argmax(0))
    pairs = [(words[0], words[1:].sum(0)) for words in (spread_words(free, name, reading) for name in sites)]
    start, rest = (np.mean([part / part.mean() for part in side], axis=0) for side in zip(*pairs, strict=True))
    np.testing.assert_array_equal(segments.foreground, rest > start)
    assert 0 < segments.foreground.sum() < 36


def test_coarse_segments_of_s_cfg_are_compared_at_a_quarter_and_repeated() -> None:
    sites = {"a": Site("a", 0, 4, Grid(4, 4), "a", "b"), "b": Site("b", 1, 4, Grid(2, 2), "c", "d")}
    given, free = scfg_maps(sites, 0), scfg_maps(sites, 1)
    each = [spread_words(given, name, "published", 4) for name in sites]
    total = np.mean([words / words.mean((1, 2), keepdims=True) for words in each], axis=0)
    segments = ScfgSegmenter("published")(given, free, Grid(16, 16))
    np.testing.assert_array_equal(segments.region, total.argmax(0).repeat(4, 0).repeat(4, 1))
    foreground, fine = segments.foreground, ScfgSegmenter("described")(given, free, Grid(16, 16)).region
    assert foreground.dtype == torch.bool
    assert torch.equal(foreground[::4, ::4].repeat_interleave(4, 0).repeat_interleave(4, 1), foreground)
    assert not torch.equal(fine[::4, ::4].repeat_interleave(4, 0).repeat_interleave(4, 1), fine)


@pytest.mark.parametrize("method", ["s-cfg", "goca-s-cfg"])
@pytest.mark.parametrize("reading", get_args(GuidanceReading))
@pytest.mark.parametrize("name", ["pocket-pixart-sigma", "pocket-sdxl"])
def test_everything_is_foreground_where_the_empty_prompt_looks_nowhere(
    name: str, reading: GuidanceReading, method: str
) -> None:
    """PixArt's empty prompt is one token, whose share is 1 everywhere; zeros in place of SDXL's share alike."""
    backbone = build_backbone(name)
    if name == "pocket-sdxl":
        backbone.pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    rule = segmenter(method, backbone, reading)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    rows = [
        *backbone.conditioning(["grass, a star"]).rows(backbone.dtype),
        *backbone.unconditional(1).rows(backbone.dtype),
    ]
    inputs = DenoiserInput(latents, torch.full((2,), 600.0), Conditioning.of_rows(rows))
    prompts = [Prompt("grass, a star", ()), Prompt("", ())]
    _, (given, free) = backbone.predict(inputs, prompts, rule.request(backbone.sites(64), Grid(16, 16)), 64)
    segments = rule(given, free, Grid(16, 16))
    assert segments is not None
    assert segments.foreground.all()
    assert segments.region.unique().numel() > 1


def test_segments_of_goca_are_those_of_its_formula() -> None:
    backbone = build_backbone("pocket-sd15")
    rule = segmenter("goca-s-cfg", backbone, "published")
    assert isinstance(rule, GocaSegmenter)
    method, grid = rule.method, Grid(16, 16)
    assert (method.heads, method.layers, method.rescaling) == ("dot-product", "dot-product", "share+min-max")
    texts = ["grass, a star, a ring", ""]
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    inputs = DenoiserInput(latents, torch.full((2,), 600.0), backbone.conditioning(texts))
    request = rule.request(backbone.sites(64), Grid(16, 16))
    _, (given, free) = backbone.predict(inputs, [Prompt(text, ()) for text in texts], request, 64)
    segments = rule(given, free, grid)
    assert segments is not None
    tokens, (stream,) = method.aggregate(given), given.tokens
    said = [column for column in range(stream.length) if column not in stream.special]
    assert len(said) == len(backbone.pipeline.tokenizer(texts[0], add_special_tokens=False).input_ids)
    words = tokens[said] / tokens[said].sum(0)
    affinity = torch.stack([given.pixels[site].float() for site in method.affinity_sites]).mean(0)

    def stretched(maps: Tensor) -> Tensor:
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return (maps - low) / (high - low)

    def refined(maps: Tensor) -> Tensor:
        return (affinity @ maps.flatten(1).T).T.view_as(maps)

    region = stretched(refined(stretched(blur(words)))).argmax(0)
    assert (segments.region == region).float().mean() > 0.99
    start = method.aggregate(free)[:1]
    foreground = stretched(blur(refined(start)))[0] < 0.5
    assert (segments.foreground == foreground).float().mean() > 0.99
    assert 0 < int(foreground.sum()) < 256
    assert rule(free, free, grid) is None


@pytest.mark.parametrize("method", ["s-cfg", "goca-s-cfg"])
@pytest.mark.parametrize("name", ["sd15", "sdxl", "pixart-sigma-512", "sd3", "flux"])
def test_shapes_on_real_architectures(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # transformers looks into a mask's values to skip it; meta tensors have none.
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False)
    backbone = shape_only(name)
    size = method_defaults(name).image_size
    rule = segmenter(method, backbone, "published")
    side = size // backbone.latent_stride
    latents = torch.empty(2, backbone.vae.config["latent_channels"], side, side, device="meta")
    inputs = DenoiserInput(latents, torch.empty(2, device="meta"), backbone.conditioning(["a star on grass", ""]))
    prompts = [Prompt("a star on grass", ()), Prompt("", ())]
    request = rule.request(backbone.sites(size), Grid(side, side))
    _, (conditional, unconditional) = backbone.predict(inputs, prompts, request, size)
    segments = rule(conditional, unconditional, Grid(side, side))
    assert segments is not None
    assert segments.region.shape == segments.foreground.shape == (side, side)
    assert segments.foreground.dtype == torch.bool
