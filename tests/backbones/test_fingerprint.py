"""What changes the fingerprint of a folder of weights, and that unchanged files are read once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from segscale.backbones.loading import file_digests
from segscale.backbones.loading.options import LoadOptions
from segscale.backbones.loading.pretrained import resolve_weights
from segscale.backbones.loading.weights_id import weights_id

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGSCALE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(resolve_weights("pocket:pocket-sd15"), tmp_path / "weights"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensor files that were read."""
    names: list[str] = []
    read = file_digests.digest
    monkeypatch.setattr(file_digests, "digest", lambda path: names.append(path.name) or read(path))
    return names


def fingerprint(folder: Path) -> str:
    return weights_id(str(folder), LoadOptions()).text


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def large_file(folder: Path) -> Path:
    """A sparse tensor file, larger than what could be read in one piece."""
    path = folder / "unet/large.safetensors"
    with path.open("wb") as file:
        file.truncate(70 * 2**20)
    return path


@pytest.mark.parametrize("place", [0, 1, 5 * 2**20 + 7, 70 * 2**20 - 1])
def test_every_byte_of_a_large_file_counts(place: int, weights: Path) -> None:
    path = large_file(weights)
    before = fingerprint(weights)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\x01")
    assert fingerprint(weights) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip(folder / UNET, -1),
        lambda folder: flip(folder / "unet/config.json", 5),
        lambda folder: flip(folder / "tokenizer/tokenizer.json", 50),
        lambda folder: (folder / UNET).rename(folder / "unet/other.safetensors"),
        lambda folder: (folder / "tokenizer/merges.txt").write_text("a b"),
        lambda folder: (folder / "tokenizer/spiece.model").write_bytes(b"1"),
    ],
)
def test_what_a_loader_reads_counts(change: Callable[[Path], object], weights: Path) -> None:
    before = fingerprint(weights)
    change(weights)
    assert fingerprint(weights) != before


@pytest.mark.parametrize(
    "name", ["README.md", "README.txt", "LICENSE.txt", ".gitattributes", "unet/notes.txt", "a.png"]
)
def test_what_no_loader_reads_does_not(name: str, weights: Path) -> None:
    before = fingerprint(weights)
    (weights / name).write_text("words")
    (weights / ".cache").mkdir()
    (weights / ".cache/download.json").write_text("{}")
    assert fingerprint(weights) == before


def test_links_are_followed(weights: Path, tmp_path: Path) -> None:
    before = fingerprint(weights)
    (tmp_path / "blobs").mkdir()
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in weights.iterdir():
        (linked / path.name).symlink_to(path, target_is_directory=path.is_dir())
    assert fingerprint(linked) == before
    (tmp_path / "again").symlink_to(linked, target_is_directory=True)
    assert fingerprint(tmp_path / "again") == before
    flip(weights / UNET, -1)
    assert fingerprint(linked) != before


def test_a_folder_that_links_to_itself_ends(weights: Path) -> None:
    before = fingerprint(weights)
    (weights / "unet/loop").symlink_to(weights / "unet", target_is_directory=True)
    assert fingerprint(weights) == before


def test_unchanged_files_are_read_once(weights: Path, hashed: list[str]) -> None:
    before = fingerprint(weights)
    first = list(hashed)
    assert len(first) == 3
    assert fingerprint(weights) == before
    assert hashed == first
    flip(weights / UNET, -1)
    assert fingerprint(weights) != before
    assert hashed == [*first, Path(UNET).name]


def test_another_size_or_another_time_is_read_again(weights: Path, hashed: list[str]) -> None:
    fingerprint(weights)
    hashed.clear()
    os.utime(weights / UNET, ns=(0, 1))
    fingerprint(weights)
    assert hashed == [Path(UNET).name]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\x00"])
def test_a_broken_cache_does_no_harm(content: str, weights: Path, tmp_path: Path) -> None:
    before = fingerprint(weights)
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_text(content)
    assert fingerprint(weights) == before
    assert fingerprint(weights) == before


def test_a_cache_that_cannot_be_written_does_no_harm(weights: Path, tmp_path: Path) -> None:
    before = fingerprint(weights)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file")
    assert fingerprint(weights) == before


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGSCALE_CACHE", str(tmp_path / "own"))
    assert file_digests.cache_file().parent == tmp_path / "own"
    monkeypatch.delenv("SEGSCALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert file_digests.cache_file().parent == tmp_path / "segscale"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert file_digests.cache_file().parent == Path.home() / ".cache/segscale"
