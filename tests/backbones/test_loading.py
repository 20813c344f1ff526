from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from segscale.backbones.loading import resolve_weights, weights_fingerprint

import segscale
from segscale.errors import UserError
from segscale.registry import build

POCKET = Path(resolve_weights("pocket:pocket-sd15"))


def test_a_twin_without_weights_names_its_trainer() -> None:
    with pytest.raises(UserError, match=r"python -m segscale.backbones.pocket.train pocket-nothing"):
        resolve_weights("pocket:pocket-nothing")


@pytest.mark.parametrize("weights", ["./nowhere", "/nowhere", "nowhere"])
def test_a_folder_without_a_model_is_one_line(weights: str) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a diffusers folder \(no model_index.json\); check --weights"):
        resolve_weights(weights)


def test_hub_weights_that_are_not_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"hf download nobody/nothing"):
        build("backbone", "sd15", weights="nobody/nothing", load=_offline())


def _offline() -> object:
    from segscale.backbones.loading import LoadOptions

    return LoadOptions(offline=True)


def test_a_truncated_weight_file_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(POCKET, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        build("backbone", "pocket-sd15", weights=str(folder))
    assert "\n" not in str(caught.value)


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(POCKET, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="cannot be loaded"):
        build("backbone", "pocket-sd15", weights=str(folder))


def test_the_fingerprint_of_a_folder_follows_its_contents(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(POCKET, folder)
    before = weights_fingerprint(str(folder), None)
    assert before == weights_fingerprint("pocket:pocket-sd15", None)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights_fingerprint(str(folder), None) != before
    assert weights_fingerprint("org/model", "abc") == "abc"


def test_the_front_door_has_a_version() -> None:
    assert segscale.__version__
    with pytest.raises(AttributeError):
        _ = segscale.nothing
