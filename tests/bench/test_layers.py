from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.attention.sites import Grid, Site
from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.loading.options import LoadOptions
from segscale.bench.analysis.layers import LayerAnalysis, Part, best_text, evaluate_parts, part_method, parts_of
from segscale.bench.commands.main import main
from segscale.bench.report.files import result_stem, write_analysis
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.datasets.prompts.described import class_prompt
from segscale.errors import UserError
from segscale.methods.build import build_method, method_defaults
from segscale.methods.head_weights import OneHead
from segscale.registry import build

from .cells import evaluated, run_cell

CELL = ("pocket-sd3", "pocket", "standard")
BLOCKS = tuple(Part(layer, f"vit-block{layer}") for layer in range(6))
DESCRIBED = LayerAnalysis("seg4diff-described", BLOCKS)


def evaluate(analysis: LayerAnalysis, options: RunOptions) -> pd.DataFrame:
    backbone_name, dataset_name, protocol_name = CELL
    task = build_task(dataset_name, build("protocol", protocol_name), options)
    return evaluate_parts(analysis, backbone_name, task, options)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts of all forwards."""
    prompts: list[str] = []
    observe = Backbone.observe

    def counted(self: Backbone, images: list[PromptedImage], *rest: object, **keywords: object) -> object:
        prompts.extend(image.prompt.text for image in images)
        return observe(self, images, *rest, **keywords)

    monkeypatch.setattr(Backbone, "observe", counted)
    return prompts


def scored(low: float, miou: float, high: float, layer: int | None, head: int | None = None) -> dict[str, object]:
    site = None if layer is None else f"vit-block{layer}"
    numbers = {"low": low, "miou": miou, "high": high, "threshold_from": "none", "no_interval": None}
    numbers |= {"not_finite": 0, "cut_classes": 0}
    return {"layer": layer, "site": site, "head": head, **numbers}


def test_one_forward_per_image_serves_all_blocks_and_each_gets_what_it_gets_alone(
    tmp_path: Path, forwards: list[str]
) -> None:
    table = evaluate(DESCRIBED, RunOptions(limit=4, results=tmp_path))
    assert len(forwards) == 4
    assert table["site"].tolist() == [part.site for part in BLOCKS]
    for part, (_, row) in zip(BLOCKS, table.iterrows(), strict=True):
        method = build_method("seg4diff-described", "pocket-sd3", grounding_sites=(part.site,))
        (alone,) = run_cell("pocket-sd3", [method], *CELL[1:], RunOptions(limit=4, results=tmp_path / "alone"))
        score = evaluated(alone).score
        assert row["miou"] == 100 * score.miou


def test_heads_share_the_forward_too(tmp_path: Path, forwards: list[str]) -> None:
    parts = tuple(Part(4, "vit-block4", head) for head in range(4))
    table = evaluate(LayerAnalysis("seg4diff", parts), RunOptions(limit=2, results=tmp_path))
    assert len(forwards) == 2
    assert table["head"].tolist() == [0, 1, 2, 3]
    assert len(set(table["miou"])) > 1


def test_an_analysis_resumes_and_counts_only_the_images_asked_for(tmp_path: Path, forwards: list[str]) -> None:
    def of(*layers: int, limit: int) -> pd.DataFrame:
        parts = tuple(BLOCKS[layer] for layer in layers)
        analysis = LayerAnalysis("seg4diff-described", parts)
        return evaluate(analysis, RunOptions(limit=limit, results=tmp_path))

    first = of(3, limit=2)
    of(3, limit=4)
    assert len(forwards) == 4
    both = of(3, 4, limit=2)
    assert len(forwards) == 6
    assert both["images"].tolist() == [2, 2]
    pd.testing.assert_frame_equal(both.head(1), first)
    of(3, 4, limit=2)
    assert len(forwards) == 6


def test_the_timestep_replaces_the_methods_own() -> None:
    own, given = (
        part_method(LayerAnalysis("seg4diff", BLOCKS, timestep=t), BLOCKS[2], "pocket-flux") for t in (None, 120)
    )
    assert own.settings.timestep == Timestep(index=-8, steps=50)
    assert given.settings.timestep == Timestep(t=120)
    assert own.settings.pixel_range == given.settings.pixel_range == "unit"


@pytest.mark.parametrize("backbone", ["pocket-sd3", "pocket-flux", "pocket-sd15", "pocket-sdxl"])
def test_heads_average_to_the_block(backbone: str) -> None:
    model, data = build_backbone(backbone), build("dataset", "pocket")
    size = method_defaults(backbone).image_size
    settings = CaptureSettings(size, Timestep(t=200))
    sites = model.sites(size)
    parts = parts_of(backbone, sites, None, heads=True)
    text = frozenset(site.name for site in sites)
    request = MapRequest(text=text, weighted=frozenset((part.site, OneHead(part.head or 0)) for part in parts))
    sample = data[0]
    prompt = class_prompt(["star", "ring"], [])
    noised = model.noised([sample.image], settings, [image_generator(0, "pocket", sample.id)])[0]
    (maps,) = model.observe([PromptedImage(*noised, prompt)], request, size)
    for site in sites:
        heads = torch.stack([maps.weighted[site.name, OneHead(head)] for head in range(site.heads)])
        torch.testing.assert_close(heads.mean(0), maps.text[site.name], atol=1e-6, rtol=1e-5)


def test_parts_are_the_blocks_that_read_text_or_all_their_heads() -> None:
    grid = Grid(4, 4)
    sites = [Site("a", 0, 2, grid, "a", "a"), Site("b", 1, 3, grid, None, "b"), Site("c", 2, 1, grid, "c", None)]
    assert parts_of("x", sites, None, heads=False) == (Part(0, "a"), Part(2, "c"))
    assert parts_of("x", sites, ["c", "a"], heads=True) == (Part(0, "a", 0), Part(0, "a", 1), Part(2, "c", 0))
    for name in ("b", "d"):
        with pytest.raises(UserError, match=f"x has no site '{name}' that reads text; see: segscale sites x"):
            parts_of("x", sites, ["a", name], heads=False)


def test_the_best_is_named_with_its_interval_and_methods_compared_are_not_in_the_race() -> None:
    rows = [scored(40, 41, 42, 0), scored(50, 51, 52, 1), scored(43, 44, 49, 2), scored(80, 90, 95, None)]
    expected = "best block: vit-block1, mIoU 51.0 [50.0, 52.0]; its interval {} that of the second, vit-block2, "
    assert best_text(pd.DataFrame(rows)).startswith(expected.format("does not overlap"))
    rows[2]["high"] = 50.0
    assert best_text(pd.DataFrame(rows)).startswith(expected.format("overlaps"))
    rows[2]["low"] = rows[2]["high"] = float("nan")
    assert best_text(pd.DataFrame(rows)).endswith("[50.0, 52.0]; second: vit-block2, 44.0‡")
    assert best_text(pd.DataFrame([scored(1, 2, 3, 5, 7)])) == "best head: head 7 of vit-block5, mIoU 2.0 [1.0, 3.0]"


@pytest.mark.parametrize(("choice", "kind", "parts"), [([], "layers", 2), (["--heads"], "heads", 8)])
def test_the_command_names_the_best_and_writes_the_same_files_again(
    choice: list[str], kind: str, parts: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[list[bytes]] = []
    stem = f"pocket-sd3-pocket-val-standard-{kind}-vit-block3-vit-block4-with-vanilla-first2"
    for folder in (tmp_path / "one", tmp_path / "two"):
        arguments = ["--sites", "vit-block3,vit-block4", "--with", "vanilla", "--limit", "2", "--results", str(folder)]
        main(["layers", "pocket-sd3", *arguments, *choice])
        files = [folder / "analysis" / f"{stem}.{ending}" for ending in ("csv", "png")]
        written.append([path.read_bytes() for path in files])
    printed = capsys.readouterr().out
    assert written[0] == written[1]
    assert written[0][1].startswith(b"\x89PNG")
    table: Any = pd.read_csv(tmp_path / "one" / "analysis" / f"{stem}.csv")
    assert int(table["layer"].count()) == parts
    assert table["method"].tolist()[-1] == "vanilla"
    parts_only: Any = table[table["layer"].notna()]
    best = parts_only.sort_values("miou", ascending=False, kind="stable").iloc[0]
    name = best["site"] if kind == "layers" else f"head {best['head']:.0f} of {best['site']}"
    assert f"best {kind[:-1].replace('layer', 'block')}: {name}, mIoU {best['miou']:.1f}‡" in printed
    assert "\n‡ No 95 % interval: these images cannot carry one (" in printed
    assert not (tmp_path / "one" / "runs").exists()


def test_a_result_of_more_rows_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    table = pd.DataFrame({"images": [2, 2]})
    (path,) = write_analysis(table, tmp_path, "layers", overwrite=False)
    write_analysis(table, tmp_path, "layers", overwrite=False)
    for smaller in (table[:1], pd.DataFrame({"images": [1, 1]})):
        with pytest.raises(UserError, match=r"holds 2 rows of 2 images.*--overwrite"):
            write_analysis(smaller, tmp_path, "layers", overwrite=False)
        assert len(pd.read_csv(path)) == 2
    write_analysis(table[:1], tmp_path, "layers", overwrite=True)
    assert len(pd.read_csv(path)) == 1


def test_files_of_other_weights_noise_and_loras_have_other_names() -> None:
    load = LoadOptions(lora="loras/aligned", dtype="float16")
    chosen = RunOptions(weights="someone/sd15-tuned", seed=1, limit=20, load=load)
    assert result_stem("sd15", None, "layers", options=RunOptions()) == "sd15-layers"
    long = [result_stem(*(f"块{number}" for number in range(first, 99)), options=RunOptions()) for first in (0, 1)]
    assert len({*long}) == 2
    assert max(len(stem.encode()) for stem in long) < 200
    assert result_stem("sd15", "layers", options=chosen) == "sd15-layers-sd15-tuned-aligned-float16-seed1-first20"
    load = LoadOptions(text_dtype="bfloat16", quantize="quanto-int8", variant="fp16", revision="abc")
    chosen = RunOptions(captions=Path("written/short.json"), load=load)
    assert result_stem("sd3", options=chosen) == "sd3-text-bfloat16-quanto-int8-fp16-abc-short"
