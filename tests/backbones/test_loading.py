from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import T5Tokenizer
from transformers.convert_slow_tokenizer import import_protobuf

import segscale
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.loading import pretrained
from segscale.backbones.loading.options import LoadOptions
from segscale.backbones.loading.pretrained import QUANTIZERS, load_denoiser, load_pipeline, resolve_weights
from segscale.backbones.loading.weights_id import weights_id
from segscale.backbones.text.memory import REMEMBERED_PROMPTS
from segscale.bench.runs.options import RunOptions
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt
from segscale.errors import UserError

POCKET = Path(resolve_weights("pocket:pocket-sd15"))
# Types of pieces in a file of sentencepiece.
NORMAL, UNKNOWN, CONTROL = 1, 2, 3


def test_a_twin_without_weights_names_the_page_of_its_training() -> None:
    with pytest.raises(UserError, match=r"pocket\.md says how to train them"):
        resolve_weights("pocket:pocket-nothing")


@pytest.mark.parametrize("weights", ["./nowhere", "/nowhere", "nowhere"])
def test_a_folder_without_a_model_is_one_line(weights: str) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a diffusers folder \(no model_index.json\); check --weights"):
        resolve_weights(weights)


def test_hub_weights_that_are_not_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"hf download nobody/nothing"):
        build_backbone("sd15", LoadOptions(offline=True), weights="nobody/nothing")


def test_a_truncated_weight_file_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(POCKET, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        build_backbone("pocket-sd15", weights=str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["to", "from_pretrained"])
def test_weights_that_do_not_fit_into_the_device_are_one_line(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(StableDiffusionPipeline, step, full)
    with pytest.raises(UserError) as caught:
        build_backbone("pocket-sd15")
    hint = "halve memory with --dtype float16, or see --offload and --quantize in: segscale run --help"
    assert str(caught.value) == f"the weights do not fit into the device's memory; {hint}"


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(POCKET, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="holds no safetensors"):
        build_backbone("pocket-sd15", weights=str(folder))


def test_the_fingerprint_of_a_folder_follows_its_contents(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(POCKET, folder)
    before = weights_id(str(folder), LoadOptions())
    assert before == weights_id("pocket:pocket-sd15", LoadOptions())
    assert before.load_options_at_commit(LoadOptions(revision="v2")).revision == "v2"
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights_id(str(folder), LoadOptions()) != before


def test_hub_weights_are_known_by_id_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {None: "aaa", "v2": "bbb"}
    monkeypatch.setattr(
        "segscale.backbones.loading.weights_id.try_to_load_from_cache",
        lambda repository, marker, revision: f"/cache/models--{repository}/snapshots/{commits[revision]}/{marker}",
    )
    assert weights_id("org/model", LoadOptions()).text == "org/model@aaa"
    assert weights_id("org/model", LoadOptions(revision="v2")).text == "org/model@bbb"
    assert weights_id("org/other", LoadOptions(), "transformer/config.json").text == "org/other@aaa"
    assert weights_id("org/model", LoadOptions()).load_options_at_commit(LoadOptions()).revision == "aaa"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LoadOptions(offload="sequential"), r"offloading moves parts .* name the GPU with --device"),
        (LoadOptions(offload="model", device_map="balanced"), "--device-map places .* leave one of them out"),
        (LoadOptions(device="cuda:99"), r"there is no device 'cuda:99' here; there are: cpu"),
        (LoadOptions(source="random"), "the config of pocket-sd15 states no architecture"),
    ],
)
def test_options_that_cannot_work_are_one_line(options: LoadOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone("pocket-sd15", options)


def test_a_device_map_places_no_denoiser_that_is_published_apart() -> None:
    with pytest.raises(UserError, match="holds the unet alone, and --device-map places what one repository holds"):
        build_backbone("pocket-sd15-60-seed0", LoadOptions(device_map="balanced"))


@pytest.mark.parametrize("load", [LoadOptions(quantize="quanto-int8"), LoadOptions(offload="sequential")])
def test_weights_that_could_not_be_made_random_are_refused_before_they_load(load: LoadOptions) -> None:
    with pytest.raises(UserError, match=r"cannot get random weights with --(quantize|offload sequential)"):
        replace(RunOptions(load=load), untrained=True)
    with pytest.raises(UserError, match=r"leave one of them out|name the GPU"):
        build_backbone("pocket-sd15", load, untrained=True)


def test_random_weights_are_the_same_under_a_device_map() -> None:
    loads = (LoadOptions(), LoadOptions(device_map="balanced"))
    plain, mapped = (build_backbone("pocket-sd15", load, untrained=True).denoiser.state_dict() for load in loads)
    assert all(torch.equal(mapped[name], tensor) for name, tensor in plain.items())


def test_t5_tokens_are_read_from_sentencepiece_files(tmp_path: Path) -> None:
    folder = tmp_path / "sigma"
    shutil.copytree(resolve_weights("pocket:pocket-pixart-sigma"), folder)
    fast = folder / "tokenizer" / "tokenizer.json"
    protocol: Any = import_protobuf()
    model = protocol.ModelProto()
    for index, (piece, score) in enumerate(json.loads(fast.read_text())["model"]["vocab"]):
        model.pieces.add(piece=piece, score=score, type=(CONTROL, CONTROL, UNKNOWN)[index] if index < 3 else NORMAL)
    model.trainer_spec.unk_id = 2
    fast.with_name("spiece.model").write_bytes(model.SerializeToString())
    fast.unlink()
    text = "a red star, a ring on sand"
    plain, read = (build_backbone("pocket-pixart-sigma", weights=weights) for weights in (None, str(folder)))
    assert read.pipeline.tokenizer(text).input_ids == plain.pipeline.tokenizer(text).input_ids


def test_weights_load_while_their_own_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(pretrained, "ready", lambda *_: list(current))
    for device in ("cpu", "cuda", "cuda:1"):
        seen = load_pipeline(StableDiffusionPipeline, "unet", str(POCKET), LoadOptions(device))
        assert seen == (["cuda:1"] if device == "cuda:1" else [])
    load_denoiser(UNet2DConditionModel, str(POCKET), "unet", LoadOptions("cuda:2"))
    assert current == ["cuda:1", "cuda:2"]


def test_a_module_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'sentencepiece'")

    monkeypatch.setattr(T5Tokenizer, "from_pretrained", lacking)
    with pytest.raises(UserError, match=r"cannot be loaded: No module named 'sentencepiece'; install what is missing"):
        build_backbone("pocket-pixart-sigma")
    monkeypatch.setitem(QUANTIZERS, "quanto-int8", "no-such-package")
    with pytest.raises(
        UserError, match=r"--quantize quanto-int8 needs no-such-package; in the clone: pip install -e '\.\[quan"
    ):
        build_backbone("pocket-pixart-sigma", LoadOptions(quantize="quanto-int8"))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        (LoadOptions(device_map="balanced"), 0),
        (LoadOptions(text_dtype="bfloat16"), 0.02),
        (LoadOptions(dtype="bfloat16"), 0.05),
        (LoadOptions(dtype="float16"), 0.02),
        (LoadOptions(quantize="quanto-int8"), 0.05),
    ],
)
def test_ways_of_loading_give_the_same_maps(options: LoadOptions, tolerance: float) -> None:
    plain, other = (first_map(build_backbone("pocket-sd15", load)) for load in (LoadOptions(), options))
    assert (plain - other).abs().max() <= tolerance
    if tolerance:
        assert not torch.equal(plain, other)


def first_map(backbone: Backbone) -> torch.Tensor:
    image = Image.fromarray(make_scene(0, "val", 0).image)
    request = MapRequest(text=frozenset(["up-level1-repeat1-vit-block0"]))
    settings = CaptureSettings(64, Timestep(t=200))
    noised = backbone.noised([image], settings, [image_generator(0, "test", "1")])[0]
    (maps,) = backbone.observe([PromptedImage(*noised, class_prompt(["star"]))], request, settings.image_size)
    return maps.text["up-level1-repeat1-vit-block0"]


def test_quantised_parts_are_quantised_and_the_autoencoder_is_not() -> None:
    pipeline = build_backbone("pocket-sd15", LoadOptions(quantize="quanto-int8", dtype="float16")).pipeline
    kinds = {part: {type(module).__name__ for module in getattr(pipeline, part).modules()} for part in ("unet", "vae")}
    assert "QLinear" in kinds["unet"]
    assert "QLinear" not in kinds["vae"]
    assert next(pipeline.vae.parameters()).dtype == torch.float32


def test_freed_text_encoders_are_not_needed_for_prompts_seen_before() -> None:
    backbone = build_backbone("pocket-sd15")
    before = first_map(backbone)
    backbone.free_text_encoders()
    assert backbone.pipeline.text_encoder is None
    assert torch.equal(first_map(backbone), before)


def test_text_is_encoded_once_per_distinct_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, encoded = build_backbone("pocket-sd15"), []
    encode = backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda texts: encoded.extend(texts) or encode(texts))
    for text in ("a star", "a ring", "a star"):
        backbone.conditioning([text])
    assert encoded == ["a star", "a ring"]
    for index in range(100):
        backbone.conditioning([f"{index}"])
    assert len(backbone.prompts) == REMEMBERED_PROMPTS


def test_a_denoiser_published_apart_replaces_the_pipelines_own(tmp_path: Path) -> None:
    apart = build_backbone("pocket-sd15", untrained=True)
    apart.denoiser.save_pretrained(tmp_path / "unet")
    joined = build_backbone("pocket-sd15", denoiser_weights=str(tmp_path))
    name, expected = next(iter(apart.denoiser.state_dict().items()))
    assert torch.equal(joined.denoiser.state_dict()[name], expected)


def test_the_front_door_has_a_version() -> None:
    assert segscale.__version__
    with pytest.raises(AttributeError):
        _ = segscale.nothing
