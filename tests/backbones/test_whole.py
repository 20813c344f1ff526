"""Weights that are not whole end in one line that names what is wrong, and what to type."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from segscale.backbones.build import build_backbone
from segscale.backbones.loading.options import LoadOptions
from segscale.backbones.loading.pretrained import resolve_weights
from segscale.errors import UserError

PARTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
Tensors = dict[str, torch.Tensor]


def copy_of(twin: str, folder: Path) -> Path:
    return Path(shutil.copytree(resolve_weights(f"pocket:{twin}"), folder / "weights"))


def change(file: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def refused(backbone_name: str, weights: Path | str, load: LoadOptions | None = None) -> str:
    with pytest.raises(UserError) as caught:
        build_backbone(backbone_name, load, weights=str(weights))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_tensor_is_named(part: str, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    name = sorted(load_file(weights / PARTS[part]))[0]
    change(weights / PARTS[part], lambda tensors: tensors.pop(name))
    line = refused("pocket-sd15", weights)
    assert f"{part} lacks 1 tensor: " in line
    assert name in line


@pytest.mark.parametrize("part", PARTS)
def test_an_unexpected_tensor_is_named(part: str, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    change(weights / PARTS[part], lambda tensors: tensors.update(strange=torch.ones(2)))
    assert f"{part} has 1 tensor that it cannot use: strange" in refused("pocket-sd15", weights)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite_is_named(part: str, value: float, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    name = sorted(load_file(weights / PARTS[part]))[-1]
    change(weights / PARTS[part], lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    line = refused("pocket-sd15", weights)
    assert f"{part} has 1 tensor that is not finite: " in line
    assert name in line


def test_of_many_tensors_a_few_are_named_and_all_counted(tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    every = len(load_file(weights / PARTS["unet"]))
    change(weights / PARTS["unet"], lambda tensors: [tensor.fill_(torch.nan) for tensor in tensors.values()])
    line = refused("pocket-sd15", weights)
    assert f"unet has {every} tensors that are not finite: " in line
    assert f" and {every - 3} more" in line


@pytest.mark.parametrize("load", [LoadOptions(device_map="balanced"), LoadOptions(quantize="quanto-int8")])
def test_a_missing_tensor_is_named_however_weights_are_loaded(load: LoadOptions, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    change(weights / PARTS["vae"], lambda tensors: tensors.pop("encoder.conv_in.weight"))
    assert "vae lacks 1 tensor: encoder.conv_in.weight" in refused("pocket-sd15", weights, load)


def test_a_denoiser_published_apart_must_be_whole_too(tmp_path: Path) -> None:
    build_backbone("pocket-sd15").denoiser.save_pretrained(tmp_path / "unet")
    change(tmp_path / PARTS["unet"], lambda tensors: tensors.pop("conv_in.weight"))
    with pytest.raises(UserError, match=r"unet lacks 1 tensor: conv_in\.weight"):
        build_backbone("pocket-sd15", denoiser_weights=str(tmp_path))


T5 = "text_encoder/model.safetensors"


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight"])
def test_tied_tensors_are_stored_once(kept: str, tmp_path: Path) -> None:
    weights = copy_of("pocket-pixart-sigma", tmp_path)
    embedding = load_file(weights / T5)["shared.weight"]

    def keep_one(tensors: Tensors) -> None:
        for name in ("shared.weight", "encoder.embed_tokens.weight"):
            tensors.pop(name, None)
        tensors[kept] = embedding.clone()

    change(weights / T5, keep_one)
    backbone = build_backbone("pocket-pixart-sigma", weights=str(weights))
    torch.testing.assert_close(backbone.pipeline.text_encoder.shared.weight, embedding.float())


def test_tied_tensors_that_are_all_gone_are_missing(tmp_path: Path) -> None:
    weights = copy_of("pocket-pixart-sigma", tmp_path)
    change(weights / T5, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layer" not in name])
    line = refused("pocket-pixart-sigma", weights)
    assert "text_encoder lacks " in line
    assert "shared.weight" in line


def test_old_checkpoints_with_position_ids_are_whole(tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    ids = torch.arange(77)[None]
    change(weights / PARTS["text_encoder"], lambda t: t.update({"text_model.embeddings.position_ids": ids}))
    build_backbone("pocket-sd15", weights=str(weights))


TWINS = ("pocket-sd15", "pocket-sdxl", "pocket-pixart-sigma", "pocket-sd3", "pocket-flux")


@pytest.mark.parametrize(("ours", "theirs"), permutations(TWINS, 2))
def test_weights_of_another_family_are_refused(ours: str, theirs: str) -> None:
    line = refused(ours, f"pocket:{theirs}")
    index = json.loads(Path(resolve_weights(f"pocket:{theirs}"), "model_index.json").read_text())
    assert f"pocket:{theirs} are weights of another family ({index['_class_name']}, not " in line
    assert line.endswith("name its backbone, see: segscale list")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    config = json.loads((weights / "unet/config.json").read_text())
    config["block_out_channels"] = [64, 96]
    (weights / "unet/config.json").write_text(json.dumps(config))
    assert "cannot be loaded" in refused("pocket-sd15", weights)


@pytest.mark.parametrize("part", ["tokenizer", "scheduler", "vae"])
def test_a_part_without_folder_is_named(part: str, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    shutil.rmtree(weights / part)
    assert refused("pocket-sd15", weights).startswith(f"{weights} has no folder {part}; ")


def test_pickled_weights_get_the_command_that_converts_them(tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    file = weights / PARTS["unet"]
    file.rename(file.with_suffix(".bin"))
    line = refused("pocket-sd15", weights)
    assert f"{weights}/unet holds no safetensors, only diffusion_pytorch_model.bin; " in line
    assert f"DiffusionPipeline.from_pretrained('{weights}').save_pretrained('" in line


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_a_single_file_gets_the_command_that_converts_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models" / name
    file.parent.mkdir()
    file.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for weights in (str(file), f"models/{name}"):
        line = refused("pocket-sd15", weights)
        assert f"{weights} is one file, not a diffusers folder; " in line
        assert f"from_single_file('{weights}').save_pretrained('{Path(weights).with_suffix('')}')" in line


@pytest.mark.parametrize("damage", ["{", "[]", "{}"])
def test_a_damaged_index_is_one_line(damage: str, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    (weights / "model_index.json").write_text(damage)
    refused("pocket-sd15", weights)


@pytest.mark.parametrize("file", ["unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json"])
def test_a_damaged_config_is_one_line(file: str, tmp_path: Path) -> None:
    weights = copy_of("pocket-sd15", tmp_path)
    (weights / file).write_text('{"_class_name": 3')
    assert str(weights) in refused("pocket-sd15", weights)
