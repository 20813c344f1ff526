"""Encoded prompts on disk are those that the encoders would give, or they are encoded again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.loading.options import LoadOptions
from segscale.backbones.text.cache import TextCache
from segscale.bench.commands.main import main
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import plan_backbone
from segscale.catalogue import packaged_backbones

TEXTS = ["star, grass", "ring", "star, grass"]


def never(self: Backbone, texts: list[str]) -> object:
    return pytest.fail(f"encoded {texts}")


@pytest.mark.parametrize("name", packaged_backbones())
def test_cached_prompts_are_equal_and_no_encoder_runs_for_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = build_backbone(name), build_backbone(name)
    first.prompts.cache = second.prompts.cache = TextCache(tmp_path, name)
    fresh = first.conditioning(TEXTS)
    assert len(list(first.prompts.cache.folder.iterdir())) == 2
    monkeypatch.setattr(type(second), "encode_text", never)
    cached = second.conditioning(TEXTS)
    assert (cached.text_length, cached.inputs.keys()) == (fresh.text_length, fresh.inputs.keys())
    for key, value in fresh.inputs.items():
        assert torch.equal(value, cached.inputs[key])
        assert value.dtype == cached.inputs[key].dtype


@pytest.mark.parametrize("damage", ["cut", "bit", "other text", "empty"])
def test_a_damaged_file_is_named_and_its_prompt_encoded_again(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TextCache(tmp_path, "encoders")
    backbone = build_backbone("pocket-sd15")
    backbone.prompts.cache = cache
    expected = backbone.conditioning(["star"]).inputs
    (path,) = cache.folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-5] ^= 4
    elif damage == "other text":
        backbone.conditioning(["ring"])
        content = bytearray(next(other for other in cache.folder.iterdir() if other != path).read_bytes())
    path.write_bytes({"cut": content[:-9], "empty": b""}.get(damage, content))
    assert cache.get("star") is None
    assert f"{path} is damaged" in caplog.text
    again = build_backbone("pocket-sd15")
    again.prompts.cache = cache
    assert all(torch.equal(again.conditioning(["star"]).inputs[key], value) for key, value in expected.items())
    assert cache.get("star") is not None


def test_other_weights_or_precision_never_meet_the_same_file(tmp_path: Path) -> None:
    def folder(name: str, **choices: object) -> str:
        options = RunOptions(text_cache=tmp_path, **choices)
        cache = plan_backbone(name, options).load().prompts.cache
        assert cache is not None
        return cache.folder.name

    plain = folder("pocket-sd15")
    assert folder("pocket-sd15", untrained=True) == plain  # of the denoiser alone
    others = [LoadOptions(dtype="float16"), LoadOptions(dtype="bfloat16"), LoadOptions(text_dtype="bfloat16")]
    names = [plain, folder("pocket-sdxl"), *(folder("pocket-sd15", load=load) for load in others)]
    assert len({*names}) == len(names)


def test_a_run_with_a_cache_prints_what_it_prints_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for number, options in enumerate(
        [[], ["--text-cache", str(tmp_path / "c")], ["--text-cache", str(tmp_path / "c")]]
    ):
        main(["run", "--limit", "2", "--results", str(tmp_path / str(number)), *options])
        printed.append(capsys.readouterr().out.rpartition("wrote")[0])
    assert printed[0] == printed[1] == printed[2]
    assert list((tmp_path / "c").glob("*/*.safetensors"))
