from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segscale.backbones.attention.chunks import AttentionCall
from segscale.backbones.attention.features import observe_features
from segscale.backbones.attention.perturbation import TextBlur, blur_matrix, denoise_perturbed
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.scores import denoise_with_scores
from segscale.backbones.attention.sites import Grid
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import DenoiserInput, PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt
from segscale.methods.build import method_defaults

from ..architectures import shape_only

NAMES = ["pocket-sd3", "pocket-flux", "pocket-pixart-sigma", "pocket-sd15"]
PROMPT = class_prompt(["star", "ring"], ["grass"])


def prompted(backbone: Backbone) -> tuple[PromptedImage, int]:
    from PIL import Image

    size = method_defaults(backbone.name).image_size
    picture = Image.fromarray(make_scene(0, "val", 0).image)
    settings = CaptureSettings(size, Timestep(t=400))
    ((latent, level),) = backbone.noised([picture], settings, [image_generator(0, "pocket", "1")])
    return PromptedImage(latent, level, PROMPT), size


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return build_backbone(request.param)


def test_a_blur_of_no_width_changes_nothing_and_another_changes_only_its_row(backbone: Backbone) -> None:
    image, size = prompted(backbone)
    sites = [site for site in backbone.sites(size) if site.text_module]
    chosen = [None, sites[1], sites[-2]]
    plain = denoise_perturbed(backbone, [None] * 3, image, 0.1)
    assert torch.equal(plain, denoise_perturbed(backbone, chosen, image, 0.0))
    perturbed = denoise_perturbed(backbone, chosen, image, 0.1)
    assert torch.equal(plain[0], perturbed[0])
    changes = (perturbed - plain).flatten(1).norm(dim=1)
    assert (changes[1:] > 1e-3).all()
    # The row of a block does not know of the other blocks' rows.
    for row, site in enumerate(chosen):
        alone = denoise_perturbed(backbone, [site], image, 0.1)
        torch.testing.assert_close(alone[0], perturbed[row], atol=1e-4, rtol=1e-4)
    wide = denoise_perturbed(backbone, chosen, image, math.inf)
    assert not torch.equal(wide[1], perturbed[1])


def reference(call: AttentionCall, image: slice, text: slice, grid: Grid, width: float) -> Tensor:
    """The definition, pixel by pixel."""
    logits = call.query @ call.key.transpose(2, 3) * call.query.shape[-1] ** -0.5
    shares = logits.softmax(-1)
    offset = image.indices(shares.shape[2])[0]
    maps = shares[:, :, image, text].clone()
    places = [(y, x) for y in range(grid.height) for x in range(grid.width)]
    for pixel, (y, x) in enumerate(places):
        weights = torch.tensor(
            [
                1.0
                if math.isinf(width)
                else math.exp(-((y - v) ** 2) / (2 * (width * grid.height) ** 2))
                * math.exp(-((x - u) ** 2) / (2 * (width * grid.width) ** 2))
                for v, u in places
            ]
        )
        weights = weights / weights.sum()
        blurred = (weights[:, None] * maps).sum(2)
        mass = maps[:, :, pixel].sum(-1, keepdim=True)
        shares[:, :, offset + pixel, text] = blurred * mass / blurred.sum(-1, keepdim=True)
    return shares @ call.value


@pytest.mark.parametrize("width", [0.1, 0.7, math.inf])
@pytest.mark.parametrize("joint", [True, False])
def test_the_blur_is_its_definition(joint: bool, width: float) -> None:
    generator, grid = torch.Generator().manual_seed(1), Grid(3, 4)
    keys = 12 + 5 if joint else 5
    queries = keys if joint else 12
    image, text = (slice(5, 17), slice(0, 5)) if joint else (slice(None), slice(None))
    call = AttentionCall(*(torch.randn(2, 3, n, 8, generator=generator) for n in (queries, keys, keys)))
    output, _ = TextBlur(image, text, grid, width, [1])(call)
    plain = F.scaled_dot_product_attention(call.query, call.key, call.value)
    assert torch.equal(output[0], plain[0])
    torch.testing.assert_close(output[1], reference(call, image, text, grid, width)[1], atol=1e-5, rtol=1e-5)
    if joint:
        assert torch.equal(output[1, :, :5], plain[1, :, :5])


def test_a_blur_matrix_keeps_even_maps_and_ends_in_the_mean() -> None:
    for width in (0, 0.01, 0.1, 3, math.inf):
        matrix = blur_matrix(16, width, torch.device("cpu"))
        torch.testing.assert_close(matrix.sum(1), torch.ones(16))
    assert torch.equal(blur_matrix(16, 0, torch.device("cpu")), torch.eye(16))
    assert torch.equal(blur_matrix(16, math.inf, torch.device("cpu")), torch.full((16, 16), 1 / 16))
    row = blur_matrix(16, 0.1, torch.device("cpu"))[8]
    assert float(row[9] / row[8]) == pytest.approx(math.exp(-1 / (2 * 1.6**2)))


def test_features_are_those_of_the_attention(backbone: Backbone) -> None:
    image, size = prompted(backbone)
    features = observe_features(backbone, image, size)
    sites = {site.name: site for site in backbone.sites(size) if site.pixel_module}
    assert [*features] == [*sites]
    (maps,) = backbone.observe([image], MapRequest(pixels=frozenset(sites)), size, torch.float32)
    for name, site in sites.items():
        query, key = (
            part.unflatten(1, (site.heads, -1)).transpose(0, 1) for part in (features[name].query, features[name].key)
        )
        assert features[name].value.shape == features[name].query.shape == (site.grid.pixels, key.shape[2] * site.heads)
        shares = (query @ key.transpose(1, 2) * key.shape[2] ** -0.5).softmax(-1)
        if site.kind != "joint":
            torch.testing.assert_close(shares.mean(0), maps.pixels[name], atol=1e-5, rtol=1e-4)
        elif site.heads == 1:
            torch.testing.assert_close(shares.mean(0), maps.pixels[name] / maps.pixels[name].sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["sd15", "sdxl", "pixart-sigma", "sd3", "flux"])
def test_shapes_on_real_architectures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # transformers looks into a mask's values to skip it; meta tensors have none.
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False)
    backbone = shape_only(name)
    image, size = prompted(backbone)
    site = next(site for site in backbone.sites(size) if site.text_module)
    output = denoise_perturbed(backbone, [None, site], image, 0.1)
    assert output.shape == (2, *image.noised.shape[1:])
    conditioning = backbone.conditioning([PROMPT.text])
    inputs = DenoiserInput(image.noised, torch.empty(1, device="meta"), conditioning)
    for mean, heads in ((True, 1), (False, site.heads)):
        _, scores = denoise_with_scores(backbone, site, inputs, mean)
        assert scores.shape == (1, heads, site.grid.pixels, conditioning.text_length)
    features = observe_features(backbone, image, size)
    grids = {each.name: each.grid for each in backbone.sites(size)}
    assert all(len(each.query) == grids[name].pixels for name, each in features.items())
