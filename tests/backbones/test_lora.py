from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone, build_shape_only
from segscale.backbones.loading.lora import (
    LORA_FILE,
    Lora,
    add_lora,
    lora_id,
    lora_tensors,
    merge_lora,
    read_lora,
    save_lora,
    set_lora_tensors,
)
from segscale.backbones.loading.lora_pickle import convert_pickle
from segscale.backbones.loading.options import LoadOptions
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import plan_backbone
from segscale.bench.training.alignment import adapted_layers
from segscale.errors import UserError
from segscale.methods.build import method_defaults

get_peft_model_state_dict = pytest.importorskip("peft").get_peft_model_state_dict

LAYERS = ["transformer_blocks.4.attn.to_q", "transformer_blocks.4.attn.to_out.0"]


def random_lora(denoiser: nn.Module, layers: list[str], rank: int = 2, up: float = 1.0) -> Lora:
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for name in layers:
        outputs, inputs = denoiser.get_parameter(f"{name}.weight").shape
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator)
        tensors[f"{name}.lora_B.weight"] = up * torch.randn(outputs, rank, generator=generator)
    return Lora(tensors, rank, 6.0)


@pytest.fixture(scope="module")
def plain() -> Backbone:
    return build_backbone("pocket-sd3")


@pytest.mark.parametrize("name", ["pocket-sd3", "pocket-flux", "pocket-pixart-sigma", "pocket-sd15"])
def test_a_lora_of_zeros_changes_nothing(name: str, tmp_path: Path) -> None:
    backbone = build_backbone(name)
    layers = adapted_layers(backbone.denoiser, backbone.sites(method_defaults(name).image_size))
    save_lora(tmp_path, backbone.denoiser_part, random_lora(backbone.denoiser, layers, up=0.0))
    adapted = build_backbone(name, LoadOptions(lora=str(tmp_path)))
    ours, theirs = backbone.denoiser.state_dict(), adapted.denoiser.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [type(module) for module in adapted.denoiser.modules()] == [type(m) for m in backbone.denoiser.modules()]


def test_a_merged_lora_adds_its_product_at_its_layers_alone(plain: Backbone, tmp_path: Path) -> None:
    lora = random_lora(plain.denoiser, LAYERS)
    save_lora(tmp_path, "transformer", lora)
    merged = build_backbone("pocket-sd3", LoadOptions(lora=str(tmp_path))).denoiser.state_dict()
    for key, weight in plain.denoiser.state_dict().items():
        name = key.removesuffix(".weight")
        if name in LAYERS:
            product = lora.tensors[f"{name}.lora_B.weight"] @ lora.tensors[f"{name}.lora_A.weight"]
            torch.testing.assert_close(merged[key], weight + 3.0 * product, atol=1e-5, rtol=1e-5)
            assert not torch.equal(merged[key], weight)
        else:
            assert torch.equal(merged[key], weight)


def test_diffusers_pipelines_read_the_same_file(plain: Backbone, tmp_path: Path) -> None:
    lora = random_lora(plain.denoiser, LAYERS)
    save_lora(tmp_path, "transformer", lora)
    ours = build_backbone("pocket-sd3", LoadOptions(lora=str(tmp_path))).denoiser
    theirs = build_backbone("pocket-sd3").pipeline
    theirs.load_lora_weights(str(tmp_path))
    theirs.fuse_lora()
    theirs.unload_lora_weights()
    for key, weight in ours.state_dict().items():
        torch.testing.assert_close(theirs.transformer.state_dict()[key], weight)


def test_a_lora_that_diffusers_script_saves_is_merged_as_diffusers_does(tmp_path: Path) -> None:
    trained = build_backbone("pocket-sd15")
    layers = [name for name, _ in trained.denoiser.named_modules() if name.endswith(("attn2.to_k", "attn2.to_out.0"))]
    tensors = random_lora(trained.denoiser, layers).tensors
    add_lora(trained.denoiser, layers, rank=2, alpha=2)
    set_lora_tensors(trained.denoiser, tensors)
    # As its example for Stable Diffusion 1 does, which keeps the older spelling.
    saved = convert_state_dict_to_diffusers(get_peft_model_state_dict(trained.denoiser))
    trained.pipeline.save_lora_weights(tmp_path, unet_lora_layers=saved)
    assert any(name.endswith(".lora.down.weight") for name in load_file(tmp_path / LORA_FILE))
    ours = build_backbone("pocket-sd15", LoadOptions(lora=str(tmp_path))).denoiser.state_dict()
    theirs = build_backbone("pocket-sd15").pipeline
    theirs.load_lora_weights(str(tmp_path))
    theirs.fuse_lora()
    theirs.unload_lora_weights()
    for key, weight in theirs.unet.state_dict().items():
        torch.testing.assert_close(ours[key], weight)


@pytest.mark.parametrize(
    ("more", "stated", "problem"),
    [
        ({"text_encoder.q_proj.lora_A.weight": torch.zeros(2, 4)}, {}, "holds text_encoder.q_proj.* no part of"),
        ({}, {"transformer.use_rslora": True}, "made with use_rslora"),
        ({}, {"transformer.alpha_pattern": {"to_q": 4}}, "made with alpha_pattern"),
    ],
)
def test_what_would_be_left_out_of_a_lora_is_refused(
    more: dict[str, Tensor], stated: dict[str, object], problem: str, plain: Backbone, tmp_path: Path
) -> None:
    path = save_lora(tmp_path, "transformer", random_lora(plain.denoiser, LAYERS))
    save_file(load_file(path) | more, path, {"lora_adapter_metadata": json.dumps({"transformer.r": 2} | stated)})
    with pytest.raises(UserError, match=problem):
        read_lora(str(tmp_path), "transformer")


def test_a_new_adapter_begins_with_no_effect_and_is_all_that_is_trained() -> None:
    backbone = build_backbone("pocket-sd3")
    parameters = add_lora(backbone.denoiser, LAYERS, rank=3, alpha=3)
    assert [p for p in backbone.denoiser.parameters() if p.requires_grad] == parameters
    tensors = lora_tensors(backbone.denoiser)
    assert Lora(tensors, 3, 3.0).modules == sorted(LAYERS)
    for name, tensor in tensors.items():
        assert bool(tensor.any()) == name.endswith("lora_A.weight")


def test_it_is_part_of_the_identity(plain: Backbone, tmp_path: Path) -> None:
    lora = random_lora(plain.denoiser, LAYERS)
    identities = [plan_backbone("pocket-sd3", RunOptions()).identity]
    for folder, changed in (("a", lora), ("b", replace(lora, alpha=7.0)), ("c", lora)):
        save_lora(tmp_path / folder, "transformer", changed)
        options = RunOptions(load=LoadOptions(lora=str(tmp_path / folder)))
        identities.append(plan_backbone("pocket-sd3", options).identity)
    none, one, other, again = identities
    assert (none.lora, none.label) == (None, "pocket-sd3")
    assert one == again != other
    assert one.label.startswith("pocket-sd3 + LoRA ")
    assert (none.training, one.training) == ("none", "none")
    save_lora(tmp_path / "taught", "transformer", replace(lora, training="masks"))
    options = RunOptions(load=LoadOptions(lora=str(tmp_path / "taught")))
    assert plan_backbone("pocket-sd3", options).identity.training == "masks"
    assert plan_backbone("pocket-sd3", options).load().training == "masks"


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    for options in (LoadOptions(quantize="quanto-int8"), LoadOptions(offload="sequential")):
        with pytest.raises(UserError, match="cannot be merged"):
            lora_id(replace(options, lora=str(tmp_path)))
    with pytest.raises(UserError, match="holds no LoRA"):
        lora_id(LoadOptions(lora=str(tmp_path)))


def test_what_is_no_lora_of_this_denoiser_is_refused(plain: Backbone, tmp_path: Path) -> None:
    lora = random_lora(plain.denoiser, LAYERS)
    path = save_lora(tmp_path, "transformer", lora)
    with pytest.raises(UserError, match="does not have"):
        merge_lora(build_backbone("pocket-flux").denoiser, Lora({"x.lora_A.weight": torch.zeros(1)}, 1, 1))
    with pytest.raises(UserError, match="which is no part of the unet"):
        read_lora(str(tmp_path), "unet")
    tensors = load_file(path)
    broken = next(iter(tensors))
    save_file(tensors | {broken: tensors[broken] * float("nan")}, path)
    with pytest.raises(UserError, match="not finite"):
        read_lora(str(tmp_path), "transformer")
    save_file({key: value for key, value in tensors.items() if key != broken}, path)
    with pytest.raises(UserError, match="no LoRA of one rank"):
        read_lora(str(tmp_path), "transformer")
    path.write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be read"):
        read_lora(str(tmp_path), "transformer")


@pytest.mark.parametrize("spelling", ["base_model.model.{}.lora_{}.weight", "{}.lora_{}.default.weight"])
def test_a_pickle_becomes_the_same_lora(spelling: str, plain: Backbone, tmp_path: Path) -> None:
    lora = random_lora(plain.denoiser, LAYERS)
    pickled = {
        spelling.format(*name.removesuffix(".weight").split(".lora_")): tensor for name, tensor in lora.tensors.items()
    }
    torch.save(pickled, tmp_path / "lora_weights.pth")
    path = convert_pickle(tmp_path / "lora_weights.pth", tmp_path / "out", plain, 6.0, "labels")
    assert path == tmp_path / "out" / LORA_FILE
    read = read_lora(str(path.parent), "transformer")
    assert (read.rank, read.alpha, read.training, read.tensors.keys()) == (2, 6.0, "labels", lora.tensors.keys())
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in lora.tensors.items())


def narrower(backbone: Backbone, kind: str, *kept: slice) -> dict[str, torch.Tensor]:
    """A LoRA of a denoiser that has one channel less at its first layer."""
    tensors = dict(random_lora(backbone.denoiser, LAYERS[:1]).tensors)
    name = f"{LAYERS[0]}.lora_{kind}.weight"
    return tensors | {name: tensors[name][kept].clone()}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_pickle_runs_no_code_and_must_be_a_lora(
    plain: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lora_weights.pth"
    for content, problem in (
        ({"x": Evil()}, "tensors alone"),
        ([torch.zeros(1)], "no table of tensors"),
        ({"blocks.9.to_q.lora_A.weight": torch.zeros(1, 1)}, "no LoRA of this backbone"),
        (narrower(plain, "A", slice(None), slice(-1)), f"{LAYERS[0]}.lora_A.weight of "),
        (narrower(plain, "B", slice(-1), slice(None)), f"{LAYERS[0]}.lora_B.weight of "),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=problem):
            convert_pickle(path, tmp_path, plain, None, "masks")
    assert "code ran" not in capsys.readouterr().out
    path.write_bytes(b"")
    with pytest.raises(UserError, match="tensors alone"):
        convert_pickle(path, tmp_path, plain, None, "masks")


def test_layers_of_the_image_stream_of_real_backbones() -> None:
    counts = {"sd3": 24 * 4, "flux": 19 * 4 + 38 * 3, "pixart-sigma": 28 * 6, "sd15": 16 * 6}
    for name, count in counts.items():
        backbone = build_shape_only(name)
        layers = adapted_layers(backbone.denoiser, backbone.sites(method_defaults(name).image_size))
        assert len(layers) == len({*layers}) == count
        assert not [layer for layer in layers if "add_" in layer]


def test_the_file_says_what_it_changes(plain: Backbone, tmp_path: Path) -> None:
    from safetensors import safe_open

    path = save_lora(tmp_path, "transformer", random_lora(plain.denoiser, LAYERS))
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["lora_adapter_metadata"])
    assert facts["transformer.lora_alpha"] == 6.0
    assert facts["transformer.target_modules"] == sorted(LAYERS)


def test_a_name_that_others_end_with_stands_for_itself_alone(tmp_path: Path) -> None:
    flux = build_backbone("pocket-flux")
    layers = ["proj_out", "x_embedder"]
    assert any(name.endswith("single_transformer_blocks.0.proj_out") for name, _ in flux.denoiser.named_modules())
    save_lora(tmp_path, "transformer", random_lora(flux.denoiser, layers))
    before = {name: weight.clone() for name, weight in flux.denoiser.state_dict().items()}
    after = build_backbone("pocket-flux", LoadOptions(lora=str(tmp_path))).denoiser.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in layers}
