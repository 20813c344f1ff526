"""GoCA from the noised latent to scores and label map, on the published code's tiny random Stable Diffusion."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.rules import HeadWeighting, HeadWeights
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.stable_diffusion import StableDiffusion
from segscale.methods.affinity import spatial_affinity
from segscale.methods.goca import GoCA
from segscale.methods.head_weights import ContributionWeighting
from segscale.prompt import Prompt

from .goca_cases import reference_site, stream

Case = tuple[StableDiffusion, dict[str, Any], dict[str, Tensor]]
CHOICES = {
    "goca": {"heads": "dot-product", "layers": "dot-product", "rescaling": "share+min-max"},
    "goca_refall": {"heads": "dot-product", "layers": "dot-product", "rescaling": "share+min-max"},
    "vanilla": {"heads": "average", "layers": "uniform", "rescaling": "min-max"},
}


@pytest.fixture(scope="module")
def case(goca_parity: Path) -> Case:
    facts = json.loads((goca_parity / "end2end-sd15.json").read_text())
    backbone = StableDiffusion(name="tiny", weights=str(goca_parity / "tiny-sd15"))
    return backbone, facts, load_file(goca_parity / "end2end-sd15.safetensors")


def goca(case: Case, kind: str, order: int = 0) -> GoCA:
    channels = "all" if kind == "goca_refall" else "first"
    facts = case[1]
    return GoCA(
        name=kind,
        image_size=facts["image_size"],
        timestep=facts["requested_t"],
        feature_size=facts["feat_size"],
        affinity_sites=tuple(facts["space_layers"]),
        affinity_order=order,
        reference_site=reference_site(facts["ref_layer"]),
        reference_channels=channels,
        **CHOICES[kind],
    )


def observe(case: Case, request: MapRequest, dtype: torch.dtype = torch.float32) -> AttentionMaps:
    backbone, facts, stored = case
    size = facts["image_size"]
    level = backbone.noise_level(CaptureSettings(size, Timestep(t=facts["requested_t"])))
    images = [PromptedImage(stored["input/latent_noised"], level, Prompt(facts["prompt"], ()))]
    (maps,) = backbone.observe(images, request, size, dtype)
    return replace(maps, tokens=stream(77, facts))


def close(actual: Tensor, expected: Tensor, tolerance: float, relative: float = 0) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=relative)


@pytest.mark.parametrize("kind", CHOICES)
def test_scores_and_affinity(case: Case, kind: str) -> None:
    backbone, _, stored = case
    for order, key, tolerance in ((0, "maps", 1e-4), (2, "affinity_order2", 1e-3)):
        method = goca(case, kind, order)
        maps = observe(case, method.request(backbone.sites(256)))
        scores = method(maps)
        close(torch.cat([scores.classes, scores.background[None]]), stored[f"{kind}/{key}"], tolerance)


def test_every_stage_of_goca(case: Case) -> None:
    backbone, facts, stored = case
    method = goca(case, "goca", order=2)
    maps = observe(case, method.request(backbone.sites(256)))
    sites = tuple(facts["feature_order"])
    assert tuple(maps.sites) == sites
    weights = method.weights(maps, sites)
    for site in sites:
        close(maps.similarity[site, method._measure], stored[f"goca/layer_weight_raw/{site}"], 0, 1e-4)
        close(torch.as_tensor(weights[site]), stored[f"goca/layer_weight/{site}"], 1e-4)
    close(method.aggregate(maps)[:16], stored["goca/aggregated_first16"], 1e-5)
    affinity = spatial_affinity(maps, method.affinity_sites, method.feature_size)
    close(affinity[stored["space/row_index"].long()], stored["space/rows"], 1e-5)
    close(affinity.sum(1), stored["space/row_sums"], 1e-4)


@dataclass(frozen=True)
class Recorded(HeadWeighting):
    """GoCA's rule, remembering the weights of every chunk."""

    site: str
    seen: list[Tensor] = field(default_factory=list, compare=False)

    def bind(self, projection: Tensor, values: Tensor) -> HeadWeights:
        rule = ContributionWeighting("dot-product").bind(projection, values)

        def weights(outputs: Tensor) -> Tensor:
            weighed = rule(outputs)
            self.seen.append(weighed[0])
            return weighed

        return weights


def test_head_weights(case: Case) -> None:
    rules = [Recorded(site) for site in case[1]["feature_order"]]
    observe(case, MapRequest(weighted=frozenset((rule.site, rule) for rule in rules)))
    for rule in rules:
        close(torch.cat(rule.seen, 1).T, case[2][f"goca/head_weight/{rule.site}"], 1e-4)


def test_half_precision_maps_stay_within_the_published_rounding(case: Case) -> None:
    method = goca(case, "goca")
    request = method.request(case[0].sites(256))
    whole, half = (method(observe(case, request, dtype)).classes for dtype in (torch.float32, torch.float16))
    close(half, whole, 2e-4)
