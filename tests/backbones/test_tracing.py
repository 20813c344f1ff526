"""Word maps while pipelines of all five families generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from diffusers import FluxKontextPipeline
from PIL import Image
from torch import Tensor

import segscale
from segscale.backbones.attention.gather import module_targets
from segscale.backbones.attention.recorder import map_probe
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.ways import ways_on
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.loading.tokenizers import t5_tokenizer
from segscale.backbones.tracing import words_of
from segscale.bench.trace import Trace
from segscale.errors import UserError
from segscale.prompt import Prompt

COMPONENTS = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")
PROMPT = "a star, a ring, sand"
FAMILIES = ["pocket-sd15", "pocket-sdxl", "pocket-pixart-sigma", "pocket-sd3", "pocket-flux"]
STEPS = 2


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    built = build_backbone(request.param)
    built.pipeline.set_progress_bar_config(disable=True)
    return built


@pytest.fixture(scope="module")
def flux() -> Any:
    pipeline = build_backbone("pocket-flux").pipeline
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: Any, prompt: Any = PROMPT, **choices: Any) -> list[Image.Image]:
    if type(pipeline).__name__.startswith("PixArt"):
        choices["use_resolution_binning"] = False
    generator = torch.Generator().manual_seed(3)
    size = {"height": 64, "width": 64} | choices
    return pipeline(prompt, num_inference_steps=STEPS, generator=generator, **size).images


@dataclass
class Call:
    """One forward of the denoiser."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def forwards(backbone: Backbone) -> list[Call]:
    """What the pipeline gives its denoiser."""
    calls: list[Call] = []
    hook = backbone.denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(Call(args, kwargs)), with_kwargs=True
    )
    generate(backbone.pipeline)
    hook.remove()
    return calls


def last_row_maps(backbone: Backbone, call: Call) -> Tensor:
    """Word maps of the last row of a forward, which has the prompt; made the way that methods read them."""
    words = words_of(PROMPT)
    sites = {site.name: site for site in backbone.sites(64) if site.text_module is not None}
    length = call.kwargs["encoder_hidden_states"].shape[1]
    targets = module_targets(
        sites,
        MapRequest(text=frozenset(sites)),
        lambda site: backbone.joint_columns(site, length),
        ways_on(torch.device("cpu")).layers,
    )
    with torch.no_grad(), map_probe(backbone.denoiser, targets, text_way="chunked") as probe:
        backbone.denoiser(*call.args, **call.kwargs)
    streams = backbone.tokenize(Prompt(PROMPT, words))
    side = max(site.grid.height for site in sites.values())
    total = torch.zeros(len(words), side, side)
    for site in sites.values():
        assert site.text_module is not None
        text = probe.observations[site.text_module].text
        assert text is not None
        for place in range(len(words)):
            columns = [column for stream in streams for column in stream.classes[place]]
            map_ = text[-1][:, columns].mean(1).reshape(1, 1, site.grid.height, site.grid.width)
            total[place] += F.interpolate(map_, (side, side), mode="bilinear", align_corners=False)[0, 0]
    return total / len(sites)


def test_maps_are_those_of_every_forward_and_the_picture_stays_the_same(backbone: Backbone) -> None:
    plain = generate(backbone.pipeline)
    with segscale.trace(backbone.pipeline) as maps:
        traced = generate(backbone.pipeline)
    difference = np.abs(np.asarray(plain[0], np.int16) - np.asarray(traced[0], np.int16))
    assert difference.max() <= 1
    calls = forwards(backbone)
    (picture,) = maps.pictures
    assert picture.words == ("a", "star", "ring", "sand")
    assert len(picture.steps) == len(calls) >= STEPS
    for step, call in zip(picture.steps, calls, strict=True):
        assert np.allclose(step, last_row_maps(backbone, call).numpy(), rtol=1e-3, atol=1e-6)
    assert np.array_equal(maps["star"], picture.steps[:, 1].mean(0))
    assert not backbone.denoiser._forward_hooks
    assert "encode_prompt" not in vars(backbone.pipeline)


def test_every_picture_of_a_batch_has_its_own_maps(backbone: Backbone) -> None:
    with segscale.trace(backbone.pipeline) as maps:
        generate(backbone.pipeline, ["a star", "water, a ring"], num_images_per_prompt=2)
        generate(backbone.pipeline, "a moon")
    prompts = [picture.prompt for picture in maps.pictures]
    assert prompts == ["a star", "a star", "water, a ring", "water, a ring", "a moon"]
    assert maps.pictures[2].words == ("water", "a", "ring")
    assert not np.array_equal(maps.pictures[0]["star"], maps.pictures[1]["star"])


def test_pictures_need_not_be_square(backbone: Backbone) -> None:
    with segscale.trace(backbone.pipeline) as maps:
        (image,) = generate(backbone.pipeline, height=32)
    height, width = maps["ring"].shape
    assert (2 * height, image.size) == (width, (64, 32))


def test_a_negative_prompt_is_not_the_picture(flux: Any) -> None:
    with segscale.trace(flux) as alone:
        generate(flux)
    with segscale.trace(flux) as guided:
        generate(flux, negative_prompt="a moon", true_cfg_scale=2.0)
    (picture,) = guided.pictures
    assert picture.words == alone.words
    assert len(picture.steps) == STEPS
    # The first step sees the same latents, whoever guides.
    assert np.allclose(picture.steps[0], alone.pictures[0].steps[0], atol=1e-6)


def test_zero_rows_in_the_place_of_t5_are_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline: Any = build_backbone("pocket-sd3").pipeline
    steps: list[np.ndarray] = []
    for tokenizer in (None, t5_tokenizer(16)):
        monkeypatch.setattr(pipeline, "tokenizer_3", tokenizer)
        with segscale.trace(pipeline) as maps:
            generate(pipeline)
        steps.append(maps.pictures[0].steps)
    assert np.array_equal(steps[0], steps[1])


def test_every_picture_of_an_offloaded_pipeline_has_maps(flux: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with segscale.trace(flux) as plain:
        generate(flux)

    def offload() -> None:
        remove_hook_from_module(flux.transformer)
        cpu_offload_with_hook(flux.transformer, "cpu")

    # As after ``enable_model_cpu_offload``, which wants a GPU.
    monkeypatch.setattr(flux, "maybe_free_model_hooks", offload)
    offload()
    with segscale.trace(flux) as maps:
        generate(flux)
        generate(flux)
    remove_hook_from_module(flux.transformer)
    for picture in maps.pictures:
        assert np.array_equal(picture.steps, plain.pictures[0].steps)
    assert len(maps.pictures) == 2


def test_a_prompt_without_maps_is_named(flux: Any, caplog: pytest.LogCaptureFixture) -> None:
    with segscale.trace(flux):
        flux.encode_prompt("a moon", prompt_2=None)
    assert "there are no maps of: a moon" in caplog.text


def test_an_interrupted_forward_is_observed_no_more(flux: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = flux.transformer.proj_out.register_forward_pre_hook(interrupted)
    with pytest.raises(KeyboardInterrupt), segscale.trace(flux):
        generate(flux)
    hook.remove()
    assert not torch.overrides._get_current_function_mode_stack()


def test_a_call_that_ended_before_its_first_forward_leaves_nothing(flux: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with segscale.trace(flux) as alone:
        generate(flux)
    with segscale.trace(flux) as maps:
        with monkeypatch.context() as patch:
            patch.setattr(flux, "prepare_latents", interrupted)
            with pytest.raises(KeyboardInterrupt):
                flux("a moon", num_inference_steps=STEPS, output_type="latent")
        generate(flux)
    (picture,) = maps.pictures
    assert picture.prompt == PROMPT
    assert np.array_equal(picture.steps, alone.pictures[0].steps)


def test_embeddings_of_a_text_that_was_encoded_before_the_call_have_its_maps(flux: Any) -> None:
    with segscale.trace(flux) as maps:
        embeddings, pooled, _ = flux.encode_prompt(PROMPT, prompt_2=None)
        flux(prompt_embeds=embeddings, pooled_prompt_embeds=pooled, num_inference_steps=STEPS, output_type="latent")
    assert maps.pictures[0].prompt == PROMPT
    assert len(maps.pictures[0].steps) == STEPS


def test_sites_may_be_chosen(flux: Any) -> None:
    chosen: list[np.ndarray] = []
    for sites in (["vit-block0"], ["vit-block1"], ["vit-block0", "vit-block1"]):
        with segscale.trace(flux, sites) as maps:
            generate(flux)
        chosen.append(maps.pictures[0].steps)
    assert np.allclose((chosen[0] + chosen[1]) / 2, chosen[2], atol=1e-6)
    with pytest.raises(UserError, match="has no text at a site 'vit-block99'"), segscale.trace(flux, ["vit-block99"]):
        generate(flux)
    assert not flux.transformer._forward_hooks


@pytest.fixture(scope="module")
def maps(flux: Any) -> Trace:
    with segscale.trace(flux) as traced:
        generate(flux)
    return traced


def test_maps_are_drawn_by_one_call(maps: Trace) -> None:
    image = Image.new("RGB", (128, 128))
    drawn = maps.draw(image)
    assert drawn.width > 4 * 128
    assert drawn.height > 128
    assert maps.draw(words=["Star"]).width == 256
    assert maps.draw(words="star").width == 256
    first, last = (maps.draw(image, ["ring"], step) for step in (0, -1))
    assert first.tobytes() != last.tobytes()
    assert maps.film("ring", image).width > STEPS * 128


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda maps: maps["start"], "has no word 'start' with a token; did you mean star?"),
        (lambda maps: maps.draw(step=7), "there is no step 7; 2 were traced"),
        (lambda maps: maps.draw(words=[]), r"there is no word to draw; words=\['a', 'star'"),
        (lambda maps: maps.film("moon"), "has no word 'moon'"),
    ],
)
def test_what_is_not_there_is_one_line(ask: Any, message: str, maps: Trace) -> None:
    with pytest.raises(UserError, match=message):
        ask(maps)


def test_what_cannot_be_traced_is_one_line(flux: Any) -> None:
    with pytest.raises(
        UserError, match="a Image cannot be traced; pipelines like these can: StableDiffusionXLPipeline"
    ):
        segscale.trace(Image.new("RGB", (1, 1)))  # pyright: ignore[reportArgumentType]
    embeddings, pooled, _ = flux.encode_prompt(PROMPT, prompt_2=None)
    with pytest.raises(UserError, match="embeddings, whose words are not known"), segscale.trace(flux):
        generate(flux, None, prompt_embeds=embeddings, pooled_prompt_embeds=pooled)
    with pytest.raises(UserError, match="different prompts"), segscale.trace(flux):
        generate(flux, prompt_2="a moon")
    with segscale.trace(flux) as maps:
        pass
    with pytest.raises(UserError, match="no picture was traced; call the pipeline within"):
        maps.draw()


def test_words_have_all_their_places() -> None:
    text = "The dog's red-brown ball, the BALL"
    found = {word.name: [text[start:end] for start, end in word.spans] for word in words_of(text)}
    assert found == {"the": ["The", "the"], "dog's": ["dog's"], "red-brown": ["red-brown"], "ball": ["ball", "BALL"]}


def test_maps_of_kontext_are_of_the_picture_and_not_of_what_it_is_given(flux: Any) -> None:
    kontext = FluxKontextPipeline(**{name: flux.components[name] for name in COMPONENTS})
    kontext.set_progress_bar_config(disable=True)
    given = Image.new("RGB", (192, 64), "red")
    with segscale.trace(kontext) as maps:
        generator = torch.Generator().manual_seed(3)
        size = {"height": 64, "width": 64, "max_area": 64 * 64, "_auto_resize": False}
        kontext(image=given, prompt=PROMPT, num_inference_steps=STEPS, generator=generator, **size)
    side = 64 // (flux.vae_scale_factor * 2)
    assert maps.pictures[0].steps.shape[-2:] == (side, side)


def test_words_of_a_cleaned_caption_are_found_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline: Any = build_backbone("pocket-pixart-sigma").pipeline
    pipeline.set_progress_bar_config(disable=True)
    with segscale.trace(pipeline) as plain:
        generate(pipeline, "a star")

    def cleaned_texts(texts: str | list[str], clean_caption: bool) -> list[str]:
        assert clean_caption, "as where the packages that clean are installed"
        return [text.replace("(", "").replace(")", "") for text in ([texts] if isinstance(texts, str) else texts)]

    monkeypatch.setattr(pipeline, "_text_preprocessing", cleaned_texts)
    with segscale.trace(pipeline) as cleaned:
        generate(pipeline, "(((a))) star", clean_caption=True)
    assert cleaned.pictures[0].prompt == "(((a))) star"
    assert np.array_equal(cleaned.pictures[0].steps, plain.pictures[0].steps)


def test_the_refiner_reads_by_its_second_tokenizer() -> None:
    backbone = build_backbone("pocket-sdxl")
    expected = backbone.tokenize(Prompt(PROMPT, words_of(PROMPT)))
    backbone.pipeline.tokenizer = None
    assert backbone.tokenize(Prompt(PROMPT, words_of(PROMPT))) == expected


def test_a_text_that_two_encoders_read_in_other_tokens_is_named(caplog: pytest.LogCaptureFixture) -> None:
    backbone = build_backbone("pocket-sdxl")
    backbone.tokenize(Prompt("a star", ()))
    assert not caplog.records
    backbone.pipeline.tokenizer_2 = t5_tokenizer(16)
    backbone.tokenize(Prompt("a star", ()))
    assert "the text encoders read other tokens of 'a star'" in caplog.text
