from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from segscale.backbones.maps import AttentionMaps, Recommended
from segscale.backbones.sites import Grid, Site
from segscale.backbones.tokens import StreamTokens
from segscale.methods.affinity import spatial_affinity
from segscale.methods.layers import aggregate, uniform_weights
from segscale.methods.vanilla import Vanilla
from torch import Tensor

SIDE = 8
RECOMMENDED = Recommended(64, 200, SIDE, ("b",), 1, "a")


def tokens(count: int, classes: list[list[int]], background: list[list[int]]) -> tuple[StreamTokens, ...]:
    columns = (tuple(map(tuple, classes)), tuple(map(tuple, background)))
    return (StreamTokens("clip", 0, count, *columns, special=(), cut=()),)


def site(name: str, layer: int, side: int, heads: int = 1) -> Site:
    return Site(name, layer, heads, Grid(side, side), f"{name}.cross", f"{name}.self")


@pytest.mark.parametrize("case", ["unet", "dit", "flux"])
def test_every_stage_equals_the_published_code(goca_parity: Path, case: str) -> None:
    inputs, stored = (load_file(goca_parity / f"method-{case}.{kind}.safetensors") for kind in ("inputs", "vanilla"))
    layers = json.loads((goca_parity / f"method-{case}.inputs.json").read_text())["layers"]
    facts = json.loads((goca_parity / f"method-{case}.vanilla.json").read_text())
    chosen, prompt = facts["settings"], facts["prompt"]
    maps = AttentionMaps(
        {layer["site"]: site(layer["site"], i, layer["grid"], layer["heads"]) for i, layer in enumerate(layers)},
        tokens(
            len(prompt["tokens"]),
            [prompt["objects"][str(i)] for i in prompt["present_objects_order"]],
            prompt["background_objects"],
        ),
    )
    for layer in layers:
        key = f"layer/{layer['site']}"
        maps.text[layer["site"]] = inputs[f"{key}/cross_map"].mean(0)
        maps.pixels[layer["site"]] = self_map(inputs, key).mean(0)
    (order,) = chosen["affinity_orders_stored"]
    recommended = Recommended(1, 100, chosen["feat_size"], tuple(chosen["space_layers"]), order, "")

    total = aggregate(maps, uniform_weights(tuple(maps.text)), chosen["feat_size"])
    torch.testing.assert_close(total, stored["out/aggregated"], atol=1e-5, rtol=0)
    for affinity_order, key in ((0, "out/maps"), (order, f"out/affinity_order{order}")):
        scores = Vanilla("vanilla", recommended, affinity_order=affinity_order)(maps)
        found = torch.cat([scores.classes, scores.background[None]])
        torch.testing.assert_close(found, stored[key], atol=1e-4, rtol=0)


def self_map(inputs: dict[str, Tensor], key: str) -> Tensor:
    if f"{key}/self_map" in inputs:
        return inputs[f"{key}/self_map"]
    query, keys = inputs[f"{key}/self_q"], inputs[f"{key}/self_k"]
    return (query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)


def random_maps(seed: int, classes: int, background: int) -> AttentionMaps:
    generator = torch.Generator().manual_seed(seed)
    maps = AttentionMaps(
        {"a": site("a", 0, 4), "b": site("b", 1, 8)},
        tokens(9, [[i] for i in range(classes)], [[classes + i] for i in range(background)]),
    )
    for name, grid in (("a", 4), ("b", 8)):
        maps.text[name] = torch.randn(grid * grid, 9, generator=generator).softmax(-1)
        maps.pixels[name] = torch.randn(grid * grid, grid * grid, generator=generator).softmax(-1)
    return maps


seeds, orders = st.integers(0, 2**31), st.integers(0, 2)


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(0, 4), orders)
def test_scores_are_stretched_to_the_unit_range(seed: int, classes: int, background: int, order: int) -> None:
    maps = random_maps(seed, classes, background)
    scores = Vanilla("vanilla", RECOMMENDED, affinity_order=order)(maps)
    assert scores.classes.shape == (classes, SIDE, SIDE)
    assert torch.equal(scores.classes.amin((1, 2)), torch.zeros(classes))
    assert torch.allclose(scores.classes.amax((1, 2)), torch.ones(classes))
    assert scores.background.shape == (SIDE, SIDE)
    assert bool(scores.background.any()) == bool(background)


@settings(max_examples=30, deadline=None)
@given(seeds, orders, st.permutations(range(3)))
def test_permuting_classes_permutes_the_scores(seed: int, order: int, permutation: list[int]) -> None:
    maps = random_maps(seed, 3, 1)
    method = Vanilla("vanilla", RECOMMENDED, affinity_order=order)
    shuffled = AttentionMaps(maps.sites, tokens(9, [[i] for i in permutation], [[3]]), maps.text, maps.pixels)
    torch.testing.assert_close(method(shuffled).classes, method(maps).classes[permutation])


def test_identity_affinity_changes_nothing() -> None:
    maps = random_maps(0, 2, 1)
    maps.pixels["b"] = torch.eye(64)
    plain, refined = (Vanilla("vanilla", RECOMMENDED, affinity_order=order)(maps) for order in (0, 3))
    torch.testing.assert_close(refined.classes, plain.classes)
    torch.testing.assert_close(refined.background, plain.background)


def test_rows_of_a_coarse_layer_sum_to_the_ratio_of_areas() -> None:
    rows = spatial_affinity(random_maps(0, 1, 0), ["a"], SIDE).sum(1)
    assert rows.mean() == pytest.approx((SIDE / 4) ** 2, rel=0.1)


def test_only_the_sites_it_names_are_asked_for() -> None:
    sites = [site("a", 0, 4), site("b", 1, 8)]
    assert Vanilla("vanilla", RECOMMENDED).request(sites).text == {"a", "b"}
    chosen = Vanilla("vanilla", RECOMMENDED, text_sites=["b"], affinity_order=0).request(sites)
    assert (chosen.text, chosen.pixels) == ({"b"}, set())
