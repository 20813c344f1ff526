from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segscale.backbones.attention.layer_similarity import SimilarityStream
from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.sites import Grid, Site
from segscale.backbones.text.tokens import StreamTokens
from segscale.methods.affinity import spatial_affinity
from segscale.methods.build import build_method
from segscale.methods.goca import GoCA
from segscale.methods.head_weights import HEAD_WEIGHTINGS, ContributionWeighting
from segscale.methods.layer_weights import ReferenceAffinity, layer_weights
from segscale.methods.method import ClassScores
from segscale.methods.rescaling import RESCALINGS, min_max, peak_contrast, rescale

SIDE, TOKENS = 8, 9
DESCRIBED = {
    "reference_channels": "all",
    "renormalise_layers": True,
    "renormalise_affinity": True,
    "safe_division": True,
}
GRIDS = {"a": 4, "b": 8, "c": 16}


def goca(**choices: Any) -> GoCA:
    sites = {"affinity_sites": ("b",), "affinity_order": 1, "reference_site": "b"}
    fields = {"name": "goca", "image_size": 64, "timestep": 200, "feature_size": SIDE, "heads": "dot-product"}
    return GoCA(**fields | sites | choices)


def site(name: str, layer: int) -> Site:
    return Site(name, layer, 2, Grid(GRIDS[name], GRIDS[name]), f"{name}.cross", f"{name}.self", f"{name}.out")


def tokens(classes: list[list[int]], background: list[list[int]]) -> tuple[StreamTokens, ...]:
    columns = (tuple(map(tuple, classes)), tuple(map(tuple, background)))
    return (StreamTokens("clip", 0, TOKENS, *columns, special=(), cut=()),)


def random_maps(
    method: GoCA, seed: int, classes: list[list[int]], background: list[list[int]], order: str = "abc"
) -> AttentionMaps:
    """Random attention at three sites; ``order`` is their execution order."""
    sites = {name: site(name, layer) for layer, name in enumerate(order)}
    request = method.request([*sites.values()])
    maps = AttentionMaps(sites, tokens(classes, background))
    stream = SimilarityStream(request.similar)
    for name, one in sites.items():
        generator = torch.Generator().manual_seed(seed + GRIDS[name])
        pixels = one.grid.pixels
        text = (2 * torch.randn(pixels, TOKENS, generator=generator)).softmax(-1)
        affinity = (2 * torch.randn(pixels, pixels, generator=generator)).softmax(-1)
        feature = torch.randn(pixels, 6, generator=generator)
        maps.text[name] = text
        maps.pixels[name] = affinity
        for key in request.weighted:
            if key[0] == name:
                maps.weighted[key] = text
        stream.add(one, affinity)
        stream.add_feature(one, feature)
    maps.similarity.update(stream.values)
    return maps


def stacked(scores: ClassScores) -> Tensor:
    return torch.cat([scores.classes, scores.background[None]])


seeds, orders = st.integers(0, 2**31), st.integers(0, 2)
heads, rules = st.sampled_from([name for name in HEAD_WEIGHTINGS if name != "average"]), st.sampled_from(RESCALINGS)


def one_layer(seed: int, count: int = 4, width: int = 3, pixels: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Projection, values and outputs of a layer."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count * width, count * width, generator=generator),
        torch.randn(count, 5, width, generator=generator),
        torch.randn(count, pixels, width, generator=generator),
    )


def naive_weights(name: str, projection: Tensor, values: Tensor, outputs: Tensor) -> Tensor:
    """Head weights straight from their definition, with heads x pixels x channels tensors."""
    count, _, width = outputs.shape
    columns = [projection[:, h * width : (h + 1) * width].double() for h in range(count)]
    added = torch.stack([o.double() @ w.T for o, w in zip(outputs, columns, strict=True)])
    total = added.sum(0)
    measured = {
        "l2-norm": added.norm(dim=-1),
        "cosine": torch.cosine_similarity(added, total[None], dim=-1),
        "dot-product": (added * total).sum(-1),
    }[name.removesuffix("-clamped").removesuffix("-value-norm")]
    if name in ("dot-product-clamped", "dot-product-value-norm"):
        measured = measured.clamp(min=0)
    if name.endswith("value-norm"):
        norms = [torch.linalg.svdvals(v.double() @ w.T)[0] for v, w in zip(values, columns, strict=True)]
        measured = measured * torch.stack(norms)[:, None]
    return (measured / measured.sum(0)).float()


@settings(max_examples=60, deadline=None)
@given(heads, seeds, st.sampled_from([7, 20]))
def test_head_weights_follow_their_definition_and_sum_to_one(name: str, seed: int, pixels: int) -> None:
    layer = one_layer(seed, pixels=pixels)  # fewer or more of them than channels
    rule = HEAD_WEIGHTINGS[name]
    assert rule is not None
    weights = rule.bind(*layer[:2])(layer[2])
    naive = naive_weights(name, *layer)
    # A sum near zero makes weights of any size; both ways of computing them then differ by rounding alone.
    steady = naive.abs().amax(0) < 20
    torch.testing.assert_close(weights[:, steady], naive[:, steady], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(weights[:, steady].sum(0), torch.ones(int(steady.sum())), atol=1e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(heads, seeds, st.permutations(range(4)))
def test_the_order_of_heads_does_not_matter(name: str, seed: int, order: list[int]) -> None:
    projection, values, outputs = one_layer(seed)
    columns = projection.unflatten(1, (4, 3))[:, order].flatten(1)
    rule = HEAD_WEIGHTINGS[name]
    assert rule is not None
    weights = rule.bind(projection, values)(outputs)
    shuffled = rule.bind(columns, values[order])(outputs[order])
    steady = weights.abs().amax(0) < 20
    torch.testing.assert_close(shuffled[:, steady], weights[order][:, steady], atol=1e-3, rtol=1e-3)


def test_safe_head_weights_average_where_the_output_is_zero() -> None:
    projection, values, outputs = one_layer(0)
    outputs[:, 2] = 0
    published, safe = (
        ContributionWeighting("dot-product", safe_division=on).bind(projection, values)(outputs) for on in (False, True)
    )
    assert published[:, 2].isnan().all()
    assert torch.equal(safe[:, 2], torch.full((4,), 0.25))
    torch.testing.assert_close(safe[:, :2], published[:, :2])


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from("abc"), st.booleans())
def test_the_adjoint_equals_resizing_the_map(seed: int, name: str, renormalised: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference, at = Grid(8, 8), Grid(GRIDS[name], GRIDS[name])
    pixels = torch.randn(at.pixels, at.pixels, generator=generator).softmax(-1)
    feature = torch.randn(64, 5, generator=generator)
    measure = ReferenceAffinity("b", channels="all", renormalised=renormalised)
    resized = torch.nn.functional.interpolate(
        pixels.reshape(-1, 1, at.height, at.width), size=(8, 8), mode="bilinear"
    ).reshape(1, at.height, at.width, 64)
    resized = torch.nn.functional.interpolate(resized.permute(0, 3, 1, 2), size=(8, 8), mode="nearest")
    resized = resized[0].permute(1, 2, 0).reshape(64, 64)
    if renormalised:
        resized = resized / resized.sum(1, keepdim=True)
    expected = ((feature @ feature.T / 5**0.5).softmax(-1) * resized).sum()
    torch.testing.assert_close(measure.bind(feature, reference)(pixels, at), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from(["dot-product", "mse", "iou-like"]), st.permutations("abc"))
def test_the_order_of_layers_does_not_matter(seed: int, layers: str, order: list[str]) -> None:
    method = goca(layers=layers)
    maps, shuffled = (random_maps(method, seed, [[1], [2, 3]], [[4]], "".join(o)) for o in ("abc", order))
    weights = method.weights(maps, tuple("abc"))
    again = method.weights(shuffled, tuple(order))
    assert float(sum(torch.as_tensor(w) for w in weights.values())) == pytest.approx(1, abs=1e-5)
    for name in "abc":
        torch.testing.assert_close(again[name], weights[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(stacked(method(shuffled)), stacked(method(maps)), atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seeds, orders, rules, st.permutations(range(3)))
def test_permuting_classes_permutes_the_scores(seed: int, order: int, rule: str, permutation: list[int]) -> None:
    method = goca(rescaling=rule, affinity_order=order)
    columns = [[1], [2, 5], [3]]
    maps = random_maps(method, seed, columns, [[4]])
    shuffled = random_maps(method, seed, [columns[i] for i in permutation], [[4]])
    torch.testing.assert_close(method(shuffled).classes, method(maps).classes[permutation], atol=1e-4, rtol=0)


@settings(max_examples=50, deadline=None)
@given(
    seeds, st.floats(0.01, 100), st.sampled_from([rule for rule in RESCALINGS if not rule.endswith(("raw", "share"))])
)
def test_the_scale_of_a_token_does_not_matter(seed: int, scale: float, rule: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    words, factor = torch.rand(2, 6, 6, generator=generator) + 0.1, torch.rand(6, 6, generator=generator) + 0.1
    scaled = words * torch.tensor([scale, 1.0])[:, None, None]
    torch.testing.assert_close(rescale(scaled, factor, rule), rescale(words, factor, rule), atol=1e-4, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 3), st.integers(0, 3), orders, st.booleans(), st.booleans(), rules)
def test_the_described_reading_never_gives_nan(
    seed: int, classes: int, background: int, order: int, zero: bool, constant: bool, rule: str
) -> None:
    method = goca(name="goca-described", rescaling=rule, affinity_order=order, **DESCRIBED)
    columns = [[i + 1] for i in range(classes)]
    maps = random_maps(method, seed, [*columns, []], [[7]] * background)
    for text in maps.weighted.values():
        if zero:
            text[:, 1] = 0
        if constant:
            text[:] = 0.125
    assert not stacked(method(maps)).isnan().any()


def test_the_described_reading_survives_attention_that_is_zero_everywhere() -> None:
    method = goca(name="goca-described", **DESCRIBED)
    maps = random_maps(method, 0, [[1]], [])
    for table in (maps.weighted, maps.pixels):
        for tensor in table.values():
            tensor.zero_()
    for number in maps.similarity.values():
        number.zero_()
    assert not stacked(method(maps)).isnan().any()


@settings(max_examples=30, deadline=None)
@given(
    seeds,
    orders,
    st.sampled_from([[1], [1, 2], [1, 2, 3], [2, 3, 5, 6, 7, 8]]),
    st.sampled_from([rule for rule in RESCALINGS if rule.startswith("share") and not rule.endswith("raw+min-max")]),
)
def test_a_single_word_is_nan_as_published_and_its_own_map_as_described(
    seed: int, order: int, word: list[int], rule: str
) -> None:
    maps = random_maps(goca(), seed, [word], [])
    maps.pixels["b"] = maps.pixels["b"].half()
    if " x " not in rule and (order or rule.endswith("min-max")):
        scores = goca(affinity_order=order, rescaling=rule)(maps)
        assert scores.classes.isnan().all()
        assert not scores.background.any()
    alone = goca(name="goca-described", affinity_order=order, **DESCRIBED)
    unshared = goca(name="goca-described", affinity_order=order, **DESCRIBED | {"rescaling": "min-max"})
    for words in ([word], [word, []], [word, word]):
        maps = random_maps(alone, seed, words, [])
        assert torch.equal(alone(maps).classes, unshared(maps).classes)
        assert alone(maps).classes[0].std() > 0.05


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(1e-6, 1e6), st.booleans())
def test_what_varies_by_rounding_alone_is_constant(seed: int, level: float, safe_division: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(-1, 2, (1, SIDE, SIDE), generator=generator)
    constant = level * (1 + torch.finfo().eps * signs)
    stretched = min_max(constant, safe_division)
    assert not stretched.any() if safe_division else stretched.isnan().all()
    varying = level * (1 + 1e-4 * signs)
    assert min_max(varying, safe_division).amax() == (1 if signs.unique().numel() > 1 else 0)


def test_layer_weights_are_never_negative_and_equal_when_all_are_if_safe() -> None:
    similarity = {name: torch.tensor(value) for name, value in (("a", -1.0), ("b", 3.0), ("c", 1.0))}
    assert [float(w) for w in layer_weights(similarity).values()] == [0.0, 0.75, 0.25]
    nothing = {name: torch.tensor(-1.0) for name in "ab"}
    assert all(w.isnan() for w in layer_weights(nothing).values())
    assert [float(w) for w in layer_weights(nothing, safe_division=True).values()] == [0.5, 0.5]


def test_rows_of_a_coarse_layer_sum_to_the_ratio_of_areas_unless_renormalised() -> None:
    maps = random_maps(goca(), 0, [[1]], [])
    assert spatial_affinity(maps, ["a"], SIDE).sum(1).mean() == pytest.approx((SIDE / 4) ** 2, rel=0.1)
    torch.testing.assert_close(spatial_affinity(maps, ["a", "c"], SIDE, renormalised=True).sum(1), torch.ones(SIDE**2))


def test_affinity_leaves_the_captured_map_alone() -> None:
    maps = random_maps(goca(), 0, [[1]], [])
    before = maps.pixels["b"].clone()
    spatial_affinity(maps, ["b", "a"], SIDE)
    assert torch.equal(maps.pixels["b"], before)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(0, 4), orders)
def test_vanilla_is_stretched_to_the_unit_range(seed: int, classes: int, background: int, order: int) -> None:
    method = goca(name="vanilla", heads="average", layers="uniform", rescaling="min-max", affinity_order=order)
    maps = random_maps(method, seed, [[i] for i in range(classes)], [[classes + i] for i in range(background)])
    scores = method(maps)
    assert torch.equal(scores.classes.amin((1, 2)), torch.zeros(classes))
    assert torch.allclose(scores.classes.amax((1, 2)), torch.ones(classes))
    assert bool(scores.background.any()) == bool(background)


def test_identity_affinity_changes_nothing() -> None:
    plain, refined = (
        goca(name="vanilla", heads="average", layers="uniform", rescaling="min-max", affinity_order=order)
        for order in (0, 3)
    )
    maps = random_maps(plain, 0, [[1], [2]], [[3]])
    maps.pixels["b"] = torch.eye(64)
    torch.testing.assert_close(stacked(refined(maps)), stacked(plain(maps)))


def test_a_method_asks_for_no_more_than_it_uses() -> None:
    sites = [site(name, layer) for layer, name in enumerate("abc")]
    vanilla = build_method("vanilla", "pocket-sd15").request(sites)
    assert vanilla.text == {"a", "b", "c"}
    assert not vanilla.weighted
    assert not vanilla.similar
    weighed = goca(text_sites=("a", "c"), affinity_order=0).request(sites)
    assert (weighed.text, weighed.pixels) == (set(), set())
    assert {name for name, _ in weighed.weighted} == {name for name, _ in weighed.similar} == {"a", "c"}
    assert weighed.sites == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["vanilla", "goca", "goca-heads", "goca-layers", "goca-rescale"])
def test_ablations_differ_from_vanilla_in_one_part(name: str) -> None:
    method, vanilla = (build_method(which, "pocket-sd15") for which in (name, "vanilla"))
    parts = ("heads", "layers", "rescaling")
    differing = [part for part in parts if getattr(method, part) != getattr(vanilla, part)]
    expected = {"vanilla": 0, "goca": 3}.get(name, 1)
    assert len(differing) == expected


def test_a_word_stands_out_by_its_strongest_tenth_above_its_mean() -> None:
    even, spot = torch.full((10, 10), 0.7), torch.full((10, 10), 0.1)
    spot[2, :] = 0.6
    found = peak_contrast(torch.stack([even, spot, 3 * spot]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.6 - 0.15, 3 * 0.45]))
    assert peak_contrast(torch.empty(0, 10, 10)).shape == (0,)
