from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segscale.backbones.attention.recorder import Target, map_probe, projection_weight
from segscale.backbones.build import build_backbone
from segscale.backbones.text.conditioning import Conditioning
from segscale.errors import UserError

HEADS, WIDTH = 3, 4


class Attention(nn.Module):
    """Attention over given heads, without projections, so that a reference is one line."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class TwoSites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Attention(), Attention()

    def forward(self, query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        between = self.first(query, key, key, mask)
        return self.second(between, between, between)


def eager(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over all keys in float32, ``(batch, heads, queries, keys)``."""
    logits = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.float()
    return logits.softmax(-1)


def heads(batch: int, length: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(batch, HEADS, length, WIDTH, generator=generator)).to(dtype)


def watch(*names: str, **fields: slice) -> dict[str, Target]:
    kept = {"queries": slice(None), "text": slice(None)} | fields
    return {name: Target(**kept) for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_two_sites_equal_an_eager_softmax_and_leave_the_output_alone(dtype: torch.dtype) -> None:
    model, query, key = TwoSites(), heads(2, 10, dtype), heads(2, 7, dtype, seed=1)
    plain = model(query, key)
    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    targets = watch("first") | watch("second", pixels=slice(None))
    with map_probe(model, targets, torch.float32, chunk_bytes=500) as probe:
        probed = model(query, key)
    torch.testing.assert_close(probed, plain, atol=tolerance, rtol=tolerance)
    first, second = probe.observations["first"], probe.observations["second"]
    torch.testing.assert_close(first.text, eager(query, key).mean(1), atol=tolerance, rtol=0)
    between = Attention()(query, key, key)
    reference = eager(between, between).mean(1)
    torch.testing.assert_close(second.pixels, reference, atol=tolerance, rtol=0)
    assert first.pixels is None


@pytest.mark.parametrize("kind", ["boolean", "additive"])
@pytest.mark.parametrize("per_query", [False, True])
def test_masks(kind: str, per_query: bool) -> None:
    model, query, key = TwoSites(), heads(2, 10), heads(2, 7, seed=1)
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(2, 1, 10 if per_query else 1, 7, generator=generator) > 0.4
    mask[..., 0] = True
    given_mask = mask if kind == "boolean" else (~mask).float() * -10000.0
    plain = model(query, key, given_mask)
    with map_probe(model, watch("first"), chunk_bytes=500) as probe:
        torch.testing.assert_close(model(query, key, given_mask), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(probe.observations["first"].text, eager(query, key, given_mask).mean(1))


@settings(max_examples=30, deadline=None)
@given(text=st.integers(1, 5), image=st.integers(1, 9), text_first=st.booleans(), chunk=st.integers(1, 4000))
def test_joint_attention_is_sliced_after_the_softmax(text: int, image: int, text_first: bool, chunk: int) -> None:
    joint = heads(1, text + image, seed=text)
    words, pixels = slice(0, text), slice(text, text + image)
    if not text_first:
        words, pixels = slice(image, image + text), slice(0, image)
    model = TwoSites()
    target = {"first": Target(queries=pixels, text=words, pixels=pixels)}
    with map_probe(model, target, torch.float32, chunk_bytes=chunk) as probe:
        probed = model(joint, joint)
    torch.testing.assert_close(probed, model(joint, joint), atol=1e-5, rtol=1e-5)
    reference = eager(joint, joint).mean(1)[:, pixels]
    torch.testing.assert_close(probe.observations["first"].text, reference[..., words])
    torch.testing.assert_close(probe.observations["first"].pixels, reference[..., pixels])


def test_pixel_maps_are_half_precision_unless_asked() -> None:
    model, query = TwoSites(), heads(1, 10)
    with map_probe(model, {"first": Target(slice(None), pixels=slice(None))}) as probe:
        model(query, query)
    pixels = probe.observations["first"].pixels
    assert pixels is not None
    assert pixels.dtype == torch.float16


def test_a_module_that_runs_twice_raises_and_is_named() -> None:
    model, query = TwoSites(), heads(1, 4)

    def twice() -> None:
        with map_probe(model, watch("first")):
            model(query, query)
            model(query, query)

    with pytest.raises(UserError, match="first cannot be observed: it ran more than once"):
        twice()


def test_a_module_that_never_runs_raises_and_is_named() -> None:
    model, query = TwoSites(), heads(1, 4)
    with (
        pytest.raises(UserError, match="second cannot be observed: it never ran"),
        map_probe(model, watch("first", "second")),
    ):
        model.first(query, query, query)


def test_hooks_are_gone_after_an_error() -> None:
    model, query = TwoSites(), heads(1, 4)
    with pytest.raises(RuntimeError), map_probe(model, watch("first")):
        model(query, heads(1, 4)[..., :2])
    model(query, query)
    assert not model.first._forward_hooks
    assert not model.first._forward_pre_hooks


def test_an_eager_processor_raises_and_is_named() -> None:
    backbone = build_backbone("pocket-sd15")
    site = backbone.sites(64)[0]
    backbone.denoiser.get_submodule(site.text_module).set_processor(AttnProcessor())
    conditioning: Conditioning = backbone.conditioning(["a star"])

    def forward() -> None:
        with torch.no_grad(), map_probe(backbone.denoiser, watch(site.text_module)):
            backbone.denoise(torch.zeros(1, 4, 16, 16), torch.tensor([200.0]), conditioning)

    with pytest.raises(UserError, match=rf"{site.text_module} .* did not call torch's scaled_dot_product"):
        forward()


def test_a_quantised_weight_is_recovered_beside_a_larger_bias() -> None:
    quanto = pytest.importorskip("optimum.quanto")
    layer = nn.Linear(64, 64)
    nn.init.normal_(layer.weight, std=0.03, generator=torch.Generator().manual_seed(0))
    nn.init.ones_(layer.bias)
    quantised = quanto.QLinear.from_module(layer.to(torch.bfloat16), weights=quanto.qint8)
    quantised.freeze()
    weight = quantised.weight.dequantize().float()
    with torch.no_grad():
        recovered = projection_weight(quantised, torch.zeros(1, dtype=torch.bfloat16))
    # What bfloat16 rounds anyway; the identity as it is loses 6 percent.
    assert (recovered - weight).norm() < 2**-8 * weight.norm()
