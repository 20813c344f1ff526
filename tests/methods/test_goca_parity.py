"""Every stage of GoCA against what its published code computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from segscale.methods.affinity import spatial_affinity
from segscale.methods.goca import GoCA
from segscale.methods.rescaling import merged_columns, word_maps

from .goca_cases import Inputs, facts, method, reference_site, tensors

CASES = ["unet", "dit", "flux"]
KINDS = ["goca", "vanilla", "goca-refall"]


def close(actual: Tensor, expected: Tensor, tolerance: float, relative: float = 0) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=relative, equal_nan=True)


def everything(method: GoCA, maps: Any) -> Tensor:
    scores = method(maps)
    return torch.cat([scores.classes, scores.background[None]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_every_stage(case: str, kind: str) -> None:
    name = f"method-{case}.{kind}"
    case_facts, stored, inputs = facts(name), tensors(name), Inputs(case)
    settings, prompt = case_facts["settings"], case_facts["prompt"]
    channels = "all" if kind == "goca-refall" else "first"
    side, reference = settings["feat_size"], reference_site(settings["ref_layer"])
    goca = method(
        settings, side, reference, reference_channels=channels, affinity_sites=tuple(settings["space_layers"])
    )
    maps = inputs.maps(goca, prompt)
    sites = tuple(maps.sites)
    for site in sites:
        key = f"out/head_weight/{site}"
        if key in stored:
            close(inputs.head_weights(site, goca._weighting).T, stored[key], 1e-4)
        if f"out/head_map/{site}" in stored:
            close(goca._text(maps)[site], stored[f"out/head_map/{site}"], 1e-4)
    weights = goca.weights(maps, sites)
    for site in sites:
        raw, share = (stored.get(f"out/{kind}/{site}") for kind in ("layer_weight_raw", "layer_weight"))
        if raw is not None and raw.ndim == 0:
            close(maps.similarity[site, goca._measure], raw, 0, 1e-4)
        if share is not None:
            close(torch.as_tensor(weights[site]).expand_as(share), share, 1e-4)
    if "out/ref_affinity" in stored:
        feature = inputs.tensors["ref/feature"].flatten(1).T
        similarity = goca._measure.bind(feature, maps.sites[reference].grid)
        close(similarity.reference, stored["out/ref_affinity"], 1e-5)
    tokens = goca.aggregate(maps)
    if "out/aggregated" in stored:
        close(tokens, stored["out/aggregated"], 1e-5)
    if "out/grouped" in stored:
        classes, background = merged_columns(maps.tokens)
        factor = tokens[prompt["rescaling_token_id"]].sum(0)
        grouped = torch.cat([word_maps(tokens, classes), word_maps(tokens, background), factor[None]])
        close(grouped, stored["out/grouped"], 1e-5)
    close(everything(goca, maps), stored["out/maps"], 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_affinity(case: str, kind: str) -> None:
    name = f"method-{case}.{kind}"
    case_facts, stored = facts(name), tensors(name)
    settings = case_facts["settings"]
    side, reference = settings["feat_size"], reference_site(settings["ref_layer"])
    orders = [int(key.removeprefix("out/affinity_order")) for key in stored if key.startswith("out/affinity_order")]
    assert orders
    for order in orders:
        goca = method(
            settings,
            side,
            reference,
            reference_channels="all" if kind == "goca-refall" else "first",
            affinity_sites=tuple(settings["space_layers"]),
            affinity_order=order,
        )
        maps = Inputs(case).maps(goca, case_facts["prompt"])
        close(everything(goca, maps), stored[f"out/affinity_order{order}"], 1e-4)
        if "out/space_rows" in stored:
            affinity = spatial_affinity(maps, goca.affinity_sites, side)
            close(affinity[stored["out/space_row_index"].long()], stored["out/space_rows"], 1e-5)
            close(affinity.sum(1), stored["out/space_row_sums"], 1e-4)


@pytest.mark.parametrize("run", facts("method-unet.variants")["runs"], ids=lambda run: run["prefix"].strip("/"))
def test_every_variant(run: dict[str, str]) -> None:
    case_facts, stored, inputs = facts("method-unet.variants"), tensors("method-unet.variants"), Inputs("unet")
    prefix, reference = run["prefix"], reference_site(case_facts["ref_layer"])
    goca = method(run, case_facts["feat_size"], reference)
    maps = inputs.maps(goca, case_facts["prompt"])
    sites = tuple(maps.sites)
    weights = goca.weights(maps, sites)
    for site in sites:
        if f"{prefix}head_weight/{site}" in stored:
            close(inputs.head_weights(site, goca._weighting).T, stored[f"{prefix}head_weight/{site}"], 1e-4)
        raw = stored.get(f"{prefix}layer_weight_raw/{site}")
        if raw is not None and raw.ndim == 0:
            close(maps.similarity[site, goca._measure], raw, 0, 1e-4)
        share = stored.get(f"{prefix}layer_weight/{site}")
        if share is not None:
            close(torch.as_tensor(weights[site]).expand_as(share), share, 1e-4)
    close(everything(goca, maps), stored[f"{prefix}maps"], 1e-4)


@pytest.mark.parametrize("case", facts("method-edge")["cases"], ids=lambda case: case["name"])
def test_every_degenerate_prompt(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # One case rescales by a column of no word.
    monkeypatch.setattr("segscale.methods.goca.rescaling_columns", lambda _: case["rescaling_token_id"])
    case_facts, stored = facts("method-edge"), tensors("method-edge")
    side, reference = case_facts["feat_size"], reference_site(case_facts["ref_layer"])
    for order, key in ((0, "maps"), (2, "affinity_order2")):
        if f"{case['name']}/{key}" not in stored:
            continue
        goca = method(case, side, reference, affinity_sites=tuple(case_facts["space_layers"]), affinity_order=order)
        found = everything(goca, Inputs("unet").maps(goca, case))
        if case["keep_all_objects"]:
            # Unmerged background maps are not part of the interface; their maximum is what a method returns.
            expected = stored[f"{case['name']}/{key}"]
            classes = len(case["present_objects_order"])
            close(found, torch.cat([expected[:classes], expected[classes:].amax(0, keepdim=True)]), 1e-4)
            continue
        close(found, stored[f"{case['name']}/{key}"], 1e-4)
