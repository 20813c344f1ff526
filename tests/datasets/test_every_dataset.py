"""Every configured dataset, whoever configured it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscale.catalogue import config_files
from segscale.datasets.dataset import Dataset
from segscale.datasets.folder import FolderDataset
from segscale.errors import UserError
from segscale.registry import DATASETS, build, load_config

# Whether a dataset's own number counts background as a class.
WITH_BACKGROUND = {
    "voc": True,
    "context59": False,
    "context60": True,
    "coco-object": True,
    "coco-stuff-27": False,
    "cityscapes": False,
    "ade20k": False,
    "refcoco": True,
    "refcoco-plus": True,
    "refcocog": True,
    "reasonseg": True,
}


def folder_class(name: str) -> type[FolderDataset]:
    found = DATASETS.get(load_config("dataset", name, imports=True)["type"])
    if not (isinstance(found, type) and issubclass(found, FolderDataset)):
        pytest.skip(f"{name} reads no folder")
    return found


@pytest.mark.parametrize("name", WITH_BACKGROUND)
def test_the_official_view_is_the_default(name: str) -> None:
    assert load_config("dataset", name)["background"] is WITH_BACKGROUND[name]


@pytest.mark.parametrize("name", ["pocket", *WITH_BACKGROUND])
def test_the_documentation_has_a_row_with_the_counts(name: str) -> None:
    text = (Path(__file__).parents[2] / "docs/datasets.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    if name in WITH_BACKGROUND:
        found = folder_class(name)
        assert all(f"{split} {counts[0]}" in row for split, counts in found.official_counts.items())
        assert ("and background" in row) is WITH_BACKGROUND[name]


@pytest.mark.parametrize("name", config_files("dataset"))
def test_missing_data_is_one_line_that_names_the_path_and_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_class(name)
    monkeypatch.chdir(tmp_path)
    for choice in ({"data_root": str(tmp_path / "nowhere")}, {}):
        with pytest.raises(UserError) as caught:
            build("dataset", name, **choice)
        line = str(caught.value)
        assert "\n" not in line
        assert line.startswith(f"there is no {choice.get('data_root', 'data')}/")
        assert "docs/datasets.md" in line.split("; ", 1)[1]
        assert "--data-root" in line


@pytest.mark.parametrize("name", WITH_BACKGROUND)
def test_a_config_that_varies_a_dataset_reads_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSCALE_CONFIGS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    base = f'_base_ = ["segscale::datasets/{name}.py"]'
    (tmp_path / "datasets/mine.py").write_text(f"{base}\nbackground = {not WITH_BACKGROUND[name]}\n")
    problems: list[str] = []
    for one in (name, "mine"):
        with pytest.raises(UserError) as caught:
            build("dataset", one)
        problems.append(caught.value.problem)
    assert problems[0] == problems[1]


@pytest.mark.parametrize("name", WITH_BACKGROUND)
def test_every_official_split_and_the_calibration_split_are_known(name: str, tmp_path: Path) -> None:
    known = [*folder_class(name).official_counts, "calibration"]
    assert {"train", "val"} < set(known)
    for split in known:
        with pytest.raises(UserError, match="there is no"):
            build("dataset", name, split=split, data_root=str(tmp_path))
    with pytest.raises(UserError, match=f"no split 'other'; there are: {', '.join(known)}$"):
        build("dataset", name, split="other", data_root=str(tmp_path))


@pytest.mark.parametrize("name", config_files("dataset"))
def test_a_dataset_prepares_nothing_or_says_what_it_needs(name: str, tmp_path: Path) -> None:
    found = DATASETS.get(load_config("dataset", name, imports=True)["type"])
    assert isinstance(found, type)
    assert issubclass(found, Dataset)
    if found.derivations.__func__ is Dataset.derivations.__func__:
        assert list(found.derivations(tmp_path)) == []
    else:
        with pytest.raises(UserError, match=f"there is no {tmp_path}.*; unpack"):
            list(found.derivations(tmp_path))
