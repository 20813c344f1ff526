"""Statistics from a fused kernel's log-sum-exp are those of the probabilities themselves."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from segscale.backbones.attention.agreement import Agreement, PixelAttention
from segscale.backbones.attention.chunks import AttentionCall, attend_in_chunks
from segscale.backbones.attention.kernels import attend_with_log_sums
from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.ways import Way, Ways
from segscale.backbones.attention.word_shares import show_word_shares
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.loading.options import LoadOptions
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt
from segscale.methods.build import method_defaults
from segscale.methods.head_weights import ContributionWeighting
from segscale.methods.layer_weights import ReferenceAffinity, affinity

FAMILIES = ("pocket-sd15", "pocket-sdxl", "pocket-pixart-sigma", "pocket-sd3", "pocket-flux")
PROMPT = class_prompt(["star", "ring"], ["grass"])
FUSED, CHUNKED = Ways("fused", "fused"), Ways("chunked", "chunked")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
FLASH, EFFICIENT, CUDNN = SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION
kernels = pytest.mark.parametrize(
    ("device", "backend", "dtype"),
    [
        *(("cpu", FLASH, dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)),
        *(
            pytest.param("cuda", backend, dtype, marks=needs_gpu)
            for backend, dtype in (
                (FLASH, torch.float16),
                (FLASH, torch.bfloat16),
                (EFFICIENT, torch.float32),
                (EFFICIENT, torch.float16),
                (CUDNN, torch.float16),
                (CUDNN, torch.bfloat16),
            )
        ),
    ],
)
ROUNDING = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# In half precision the CPU's kernel takes its exponentials by a faster, coarser function.
LOG_ROUNDING = {torch.float32: 5e-6, torch.float16: 1e-4, torch.bfloat16: 1e-4}
# Queries that are no multiple of what kernels pad to; an odd scale, which a kernel that ignored it would miss.
BATCH, HEADS, QUERIES, KEYS, WIDTH, SCALE = 2, 3, 45, 71, 24, 0.37


def attention_call(device: str, dtype: torch.dtype, mask: Tensor | None = None, width: int = WIDTH) -> AttentionCall:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(BATCH, length, HEADS, width, generator=generator).transpose(1, 2).to(device, dtype)
        for length in (QUERIES, KEYS, KEYS)
    )
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(dtype)
    return AttentionCall(query, key, value, None if mask is None else mask.to(device), scale=SCALE)


def logits(call: AttentionCall) -> Tensor:
    products = SCALE * call.query.double() @ call.key.double().transpose(-1, -2)
    mask = call.attn_mask
    if mask is None:
        return products
    return products.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else products + mask.double()


def masks(kind: str) -> Tensor | None:
    """Of some keys, the first never masked; ``per-query`` differs from query to query."""
    if kind == "none":
        return None
    rows = QUERIES if "per-query" in kind else 1
    kept = torch.rand(BATCH, 1, rows, KEYS, generator=torch.Generator().manual_seed(3)) > 0.4
    kept[..., 0] = True
    return kept if "boolean" in kind else (~kept).float() * -10000.0


KINDS = ("none", "boolean", "additive", "boolean per-query", "additive per-query")


@kernels
@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_gives_the_output_and_the_log_sum_exp(
    device: str, backend: SDPBackend, dtype: torch.dtype, kind: str
) -> None:
    call = attention_call(device, dtype, masks(kind))
    with sdpa_kernel([backend, SDPBackend.MATH]):
        attended = attend_with_log_sums(call)
    if attended is None:
        assert device == "cuda", "the CPU's kernel takes every mask"
        pytest.skip(f"{backend} takes no such mask")
    expected = logits(call)
    torch.testing.assert_close(attended.log_sums.double(), expected.logsumexp(-1), atol=LOG_ROUNDING[dtype], rtol=0)
    assert attended.log_sums.dtype == torch.float32
    output = expected.softmax(-1) @ call.value.double()
    torch.testing.assert_close(attended.output.double(), output, atol=ROUNDING[dtype], rtol=ROUNDING[dtype])


@kernels
def test_a_width_that_is_no_multiple_of_eight(device: str, backend: SDPBackend, dtype: torch.dtype) -> None:
    call = attention_call(device, dtype, width=13)
    with sdpa_kernel([backend, SDPBackend.MATH]):
        attended = attend_with_log_sums(call)
    if attended is None:
        assert device == "cuda"
        pytest.skip(f"{backend} takes no such width")
    torch.testing.assert_close(attended.log_sums.double(), logits(call).logsumexp(-1), atol=LOG_ROUNDING[dtype], rtol=0)
    assert attended.output.shape == call.query.shape


def test_where_torch_runs_no_fused_kernel_there_is_no_log_sum_exp() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        assert attend_with_log_sums(attention_call("cpu", torch.float32)) is None


@kernels
@pytest.mark.parametrize("kind", KINDS)
def test_word_shares_are_those_of_the_softmax_over_all_keys(
    device: str, backend: SDPBackend, dtype: torch.dtype, kind: str
) -> None:
    call, queries, words = attention_call(device, dtype, masks(kind)), slice(5, 40), slice(50, 66)
    with sdpa_kernel([backend, SDPBackend.MATH]):
        attended = attend_with_log_sums(call)
    if attended is None:
        pytest.skip(f"{backend} takes no such mask")
    expected = logits(call).softmax(-1)[:, :, queries]
    starts: list[int] = []

    def look(shares: Tensor, outputs: Tensor, start: int) -> None:
        rows = slice(start, start + shares.shape[2])
        starts.append(start)
        assert shares.dtype == torch.float32
        rounding = LOG_ROUNDING[dtype]
        torch.testing.assert_close(shares.double(), expected[:, :, rows, words], atol=rounding / 10, rtol=rounding)
        assert torch.equal(outputs, attended.output[:, :, queries][:, :, rows])

    show_word_shares(call, attended, queries, words, look, chunk_bytes=4000)
    assert len(starts) > 2


@kernels
@pytest.mark.parametrize("renormalised", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_agreement_is_that_of_the_maps(
    device: str, backend: SDPBackend, dtype: torch.dtype, renormalised: bool, joint: bool
) -> None:
    call = attention_call(device, dtype)
    call = AttentionCall(call.key, call.key, call.value, scale=SCALE)
    pixels = slice(0, 50) if joint else slice(None)
    # A feature comes from the same arithmetic, so that its values are numbers of that precision.
    feature = 2 * torch.randn(KEYS, 1, generator=torch.Generator().manual_seed(1)).to(device, dtype).float()[pixels]
    shares = logits(call).softmax(-1)[:, :, pixels, pixels].mean(1)
    if renormalised:
        shares = shares / shares.sum(-1, keepdim=True)
    expected = (affinity(feature).double() * shares).sum((1, 2))
    with sdpa_kernel([backend, SDPBackend.MATH]):
        attended = attend_with_log_sums(call)
        assert attended is not None
        parts = (call.query[:, :, pixels], call.key[:, :, pixels], attended.log_sums[:, :, pixels])
        agreement = Agreement(feature, renormalised)
        actual = [agreement(PixelAttention(*row, SCALE, joint)) for row in zip(*parts, strict=True)]
    # What one number of half precision would cut off the feature is 10 to 100 times as much.
    torch.testing.assert_close(torch.stack(actual).double(), expected, atol=0, rtol=LOG_ROUNDING[dtype])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_agreement_keeps_what_half_precision_cuts_off_a_feature(dtype: torch.dtype) -> None:
    """Of features as large as those of real backbones; keys without the rest were a tenth off and more."""
    call = attention_call("cpu", dtype)
    attended = attend_with_log_sums(AttentionCall(call.key, call.key, call.value, scale=SCALE))
    assert attended is not None
    feature = 10 + torch.randn(KEYS, 1, generator=torch.Generator().manual_seed(1))
    shares = (SCALE * call.key.double() @ call.key.double().transpose(-1, -2)).softmax(-1).mean(1)
    expected = (affinity(feature).double() * shares).sum((1, 2))
    agreement = Agreement(feature, renormalised=False)
    parts = (call.key, call.key, attended.log_sums)
    actual = [agreement(PixelAttention(*row, SCALE, joint=False)) for row in zip(*parts, strict=True)]
    torch.testing.assert_close(torch.stack(actual).double(), expected, atol=0, rtol=5e-3)


def test_agreement_where_no_kernel_gives_sums() -> None:
    call = attention_call("cpu", torch.float32)
    attention = PixelAttention(call.key[0], call.key[0], logits(call)[0, :, :1].logsumexp(-1).float(), SCALE, False)
    feature = torch.randn(KEYS, 1, generator=torch.Generator().manual_seed(1))
    fused = Agreement(feature, renormalised=False)(attention)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(Agreement(feature, renormalised=False)(attention), fused, atol=0, rtol=1e-5)


@cache
def loaded(name: str, device: str) -> Backbone:
    return build_backbone(name, LoadOptions(device=device))


def everything(backbone: Backbone, size: int) -> MapRequest:
    """All that methods ask for, but no pixel-to-pixel map."""
    sites = backbone.sites(size)
    names = frozenset(site.name for site in sites)
    reading = frozenset(site.name for site in sites if site.text_module)
    reference = method_defaults(backbone.name).reference_site
    rules = (ContributionWeighting("dot-product", clamp=True), ContributionWeighting("cosine", clamp=True))
    measures = [ReferenceAffinity(reference, renormalised=renormalised) for renormalised in (False, True)]
    return MapRequest(
        text=reading,
        weighted=frozenset((name, rule) for name in reading for rule in rules),
        similar=frozenset((name, measure) for name in names for measure in measures),
    )


def observed(backbone: Backbone, ways: Ways, request: MapRequest | None = None) -> AttentionMaps:
    defaults = method_defaults(backbone.name)
    settings = CaptureSettings(defaults.image_size, Timestep(t=defaults.timestep))
    image = Image.fromarray(make_scene(0, "val", 0).image)
    (noised,) = backbone.noised([image], settings, [image_generator(0, "test", "1")])
    request = request or everything(backbone, settings.image_size)
    return backbone.observe([PromptedImage(*noised, PROMPT)], request, settings.image_size, torch.float32, ways)[0]


@devices
@pytest.mark.parametrize("name", FAMILIES)
def test_both_ways_agree_on_every_family(name: str, device: str) -> None:
    backbone = loaded(name, device)
    fused, chunked = observed(backbone, FUSED), observed(backbone, CHUNKED)
    assert set(chunked.ways.values()) == {"chunked"}
    assert fused.text.keys() == chunked.text.keys()
    assert fused.weighted.keys() == chunked.weighted.keys()
    assert fused.similarity.keys() == chunked.similarity.keys()
    for site, text in chunked.text.items():
        torch.testing.assert_close(fused.text[site], text, atol=1e-6, rtol=0)
    for key, text in chunked.weighted.items():
        torch.testing.assert_close(fused.weighted[key], text, atol=1e-6, rtol=1e-5)
    for key, number in chunked.similarity.items():
        torch.testing.assert_close(fused.similarity[key], number, atol=0, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_which_way_a_module_was_observed_is_recorded(name: str) -> None:
    backbone = loaded(name, "cpu")
    maps = observed(backbone, FUSED)
    reference = maps.sites[method_defaults(name).reference_site]
    for site in maps.sites.values():
        of_pixels: Way = "fused" if site.grid == reference.grid else "chunked"
        assert site.pixel_module is None or maps.ways[site.pixel_module] == of_pixels
        if site.kind == "cross+self":
            assert maps.ways[site.text_module or ""] == "chunked", "text is all that it attends to"


def test_a_site_whose_map_is_needed_is_observed_in_chunks() -> None:
    backbone = loaded("pocket-sd3", "cpu")
    size = method_defaults(backbone.name).image_size
    first, second = (site for site in backbone.sites(size)[:2])
    request = MapRequest(frozenset([first.name, second.name]), pixels=frozenset([second.name]))
    maps = observed(backbone, FUSED, request)
    assert (maps.ways[first.text_module or ""], maps.ways[second.text_module or ""]) == ("fused", "chunked")
    assert [*maps.pixels] == [second.name]


def test_without_a_log_sum_exp_chunks_give_the_same() -> None:
    backbone = loaded("pocket-sd3", "cpu")
    fused = observed(backbone, FUSED)
    with sdpa_kernel(SDPBackend.MATH):
        maps = observed(backbone, FUSED)
    assert set(maps.ways.values()) == {"chunked"}
    for key, number in fused.similarity.items():
        torch.testing.assert_close(maps.similarity[key], number, atol=0, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_fused_text_maps_are_nearer_to_float32(dtype: torch.dtype) -> None:
    """Chunks round logits to the precision of the queries; from the log-sum-exp they are float32."""
    call, words = attention_call("cpu", dtype), slice(50, 66)
    exact = logits(call).softmax(-1)[..., words]
    attended = attend_with_log_sums(call)
    assert attended is not None
    errors: dict[str, float] = {"fused": 0.0, "chunked": 0.0}

    def look(way: str, columns: slice) -> None:
        def note(shares: Tensor, _outputs: Tensor, start: int) -> None:
            wrong = shares[..., columns].double() - exact[:, :, start : start + shares.shape[2]]
            errors[way] = max(errors[way], wrong.abs().max().item())

        if way == "fused":
            show_word_shares(call, attended, slice(None), words, note)
        else:
            attend_in_chunks(call, slice(None), note)

    look("fused", slice(None))
    look("chunked", words)
    assert 5 * errors["fused"] < errors["chunked"], errors


@pytest.mark.parametrize("hidden", [-10_000.0, float("-inf"), False])
def test_hidden_keys_at_the_end_are_left_out_and_change_nothing(hidden: float | bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, tokens, 4, generator=generator) for tokens in (5, 9, 9))
    mask = torch.zeros(2, 1, 1, 9) if hidden is not False else torch.ones(2, 1, 1, 9, dtype=torch.bool)
    mask[0, ..., 4:], mask[1, ..., 6:], mask[1, ..., 2] = hidden, hidden, hidden
    call = AttentionCall(query, key, value, mask)
    less = call.without_hidden_keys()
    assert less.key.shape == less.value.shape == (2, 3, 6, 4)
    torch.testing.assert_close(less.attend(), call.attend())
    mask[0] = hidden
    assert AttentionCall(query, key, value, mask).without_hidden_keys().key is key, "a row without keys is left alone"
