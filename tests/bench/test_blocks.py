from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from segscale.backbones.attention.features import TokenFeatures
from segscale.backbones.attention.sites import Grid
from segscale.backbones.build import build_backbone
from segscale.bench.analysis import features as features_module
from segscale.bench.analysis import modalities, perturbation
from segscale.bench.analysis.features import (
    VIEW,
    adjusted_r2,
    design_basis,
    explained,
    grid_labels,
    one_hot,
    position_design,
    principal_components,
)
from segscale.bench.analysis.layers import LayerAnalysis, evaluate_parts, parts_of
from segscale.bench.analysis.perturbation import (
    GENERATED_VIEW,
    MEASURES,
    correlated_view,
    measure,
    with_correlations,
)
from segscale.bench.commands.main import main
from segscale.bench.generation import settings as generation_settings
from segscale.bench.generation.power_record import find_power
from segscale.bench.report import feature_figure
from segscale.bench.report.figures import analyses
from segscale.bench.report.figures.analyses import AnalysisView
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.task import Task
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.registry import build

GRID = Grid(6, 5)


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("pocket", build("protocol", "standard"), RunOptions())


def test_r2_is_one_of_what_decides_and_nothing_of_what_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(6).repeat_interleave(5)
    decided = torch.stack([(rows**2).double(), 3 * torch.arange(5).repeat(6).double()], dim=1)
    position = design_basis(position_design(GRID))
    assert adjusted_r2(decided, position) == pytest.approx(1)
    noise = [torch.randn(30, 2, generator=generator).double() for _ in range(300)]
    by_chance = [adjusted_r2(each, position) for each in noise]
    assert np.mean(by_chance) == pytest.approx(0, abs=0.03)
    # Sums of squares by hand: groups {1, 3} and {5, 9} around 2, 7 and 4.5.
    values = torch.tensor([[1.0], [3], [5], [9]]).double()
    groups = design_basis(one_hot(torch.tensor([0, 0, 1, 1])))
    share = 1 - (1 + 1 + 4 + 4) / (3.5**2 + 1.5**2 + 0.5**2 + 4.5**2)
    assert adjusted_r2(values, groups) == pytest.approx(1 - (1 - share) * 3 / 2)


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    tokens = torch.randn(30, 12, generator=torch.Generator().manual_seed(0)).double() * torch.arange(1, 13)
    components = principal_components(tokens, 4)
    left, scales, _ = torch.linalg.svd(tokens - tokens.mean(0), full_matrices=False)
    torch.testing.assert_close(components.abs(), (left * scales)[:, :4].abs())
    torch.testing.assert_close(components, principal_components(tokens, 4))


def test_tokens_made_of_position_and_class_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = np.array([0, 1, 2] * 10, np.uint8)
    position, classes = position_design(GRID).float(), one_hot(torch.from_numpy(labels.astype(int))).float()
    spread = [10 * part @ torch.randn(part.shape[1], 12, generator=generator) for part in (position, classes)]
    measures = explained(TokenFeatures(spread[0], spread[1], spread[1]), GRID, labels)
    assert measures.keys() == VIEW.labels.keys()
    assert measures["query_position_3"] == pytest.approx(1)
    assert measures["query_class_3"] < 0.5
    assert measures["key_class_3"] == measures["value_class_3"] == pytest.approx(1)


def test_a_pixel_of_the_grid_has_the_label_that_covers_most_of_it() -> None:
    label = np.zeros((4, 4), np.uint8)
    label[:2, :2], label[0, 2], label[2:, 2:] = 7, 3, 255
    assert grid_labels(label, Grid(2, 2)).tolist() == [7, 0, 0, 255]


def test_a_correlation_with_nothing_is_said_to_be_none() -> None:
    rows = [
        {"measure": measure, "layer": layer, "site": f"s{layer}", "mean": value, "low": 0, "high": 0}
        for layer in range(4)
        for measure, value in (("miou", layer), ("loss", 0.0))
    ]
    text = perturbation.correlation_text(with_correlations(pd.DataFrame(rows)))
    assert text.endswith("denoising loss not defined")


def test_rank_correlations_are_of_the_blocks_and_exact() -> None:
    layers = range(5)
    parts = {"change_objects": [1, 2, 3, 4, 5], "change_rest": [5, 4, 3, 2, 1], "loss": [1.0] * 5}
    rows = [{"layer": layer, "measure": "miou", "mean": 10 * layer} for layer in layers]
    rows += [{"layer": layer, "measure": name, "mean": parts[name][layer]} for layer in layers for name in parts]
    table = with_correlations(pd.DataFrame(rows)).drop_duplicates("measure").set_index("measure")
    assert table.loc["change_objects", ["rho", "rho_p"]].tolist() == pytest.approx([1, 2 / 120])
    assert table.loc["change_rest", "rho"] == pytest.approx(-1)
    assert table.loc[["loss", "miou"], "rho"].isna().all()


def test_titles_of_panels_say_the_correlations() -> None:
    rows = [
        {"layer": layer, "measure": name, "mean": sign * layer}
        for layer in range(5)
        for name, sign in (("miou", 1), ("change_objects", 1), ("loss", -1))
    ]
    panels = correlated_view(GENERATED_VIEW, with_correlations(pd.DataFrame(rows))).panels
    assert [*panels.values()] == [*GENERATED_VIEW.panels.values()]
    assert [*panels] == [
        "one block blurred\nrank correlation: velocity on objects +1.00 (p 0.017)"
        "\nrank correlation: denoising loss -1.00 (p 0.017)",
        "one block alone",
        "pictures with one block blurred",
    ]


def test_blocks_are_measured_alike_whatever_shares_a_forward(task: Task) -> None:
    backbone, method = build_backbone("pocket-sd3"), build_method("seg4diff-described", "pocket-sd3")
    together, apart = (
        measure(backbone, task, method, 0.1, RunOptions(limit=2, batch=batch)).set_index(["image", "site"])
        for batch in (8, 1)
    )
    assert (together.index == apart.index).all()
    np.testing.assert_allclose(together[[*MEASURES]], apart[[*MEASURES]], rtol=1e-2, atol=1e-2)
    nothing = measure(backbone, task, method, 0.0, RunOptions(limit=2, batch=8))
    assert (nothing[[*MEASURES]] == 0).all(axis=None)


def test_memory_that_runs_out_halves_the_blocks_and_counts_none_twice(
    task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backbone, method = build_backbone("pocket-sd3"), build_method("seg4diff-described", "pocket-sd3")
    whole, calls = perturbation._measures, iter(range(1000))

    def scarce(*arguments: Any) -> dict[str, float]:
        if next(calls) == 2:
            raise torch.OutOfMemoryError
        return whole(*arguments)

    monkeypatch.setattr(perturbation, "_measures", scarce)
    rows = measure(backbone, task, method, 0.1, RunOptions(limit=1))
    assert rows["layer"].tolist() == [*range(6)]
    assert caplog.text.count("do not fit") == 1
    assert "6 blocks do not fit into the device's memory; 3 share a forward now" in caplog.text


def test_changes_are_shares_of_the_answer_on_their_pixels_and_of_the_loss() -> None:
    plain, perturbed, target = torch.ones(2, 2, 2), torch.ones(2, 2, 2), torch.zeros(2, 2, 2)
    objects = torch.tensor([[1.0, 0.0], [0.5, 0.0]])
    perturbed[:, 0, 0] = 1.3
    perturbed[:, 1, 0] = 0.9
    measures = perturbation._measures(plain, perturbed, target, objects)
    # Of objects 1 and 1/2 pixels, of the rest 1/2 and 2; of the loss (2 + 1.3^2 + 0.9^2) / 4.
    assert measures["change_objects"] == pytest.approx(100 * np.sqrt((0.09 + 0.5 * 0.01) / 1.5), rel=1e-4)
    assert measures["change_rest"] == pytest.approx(100 * np.sqrt(0.5 * 0.01 / 2.5), rel=1e-4)
    assert measures["loss"] == pytest.approx(100 * ((2 + 1.69 + 0.81) / 4 - 1), rel=1e-4)


def test_an_image_counts_for_the_pixels_that_it_has(
    task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    share = perturbation._object_share
    covered, empty = task.dataset[0].label, [task.dataset[place].label for place in (1, 2)]

    def shown(label: NDArray[np.uint8], class_ids: Sequence[int], size: tuple[int, int]) -> torch.Tensor:
        if np.array_equal(label, covered):
            return torch.ones(size)
        return (
            torch.zeros(size) if any(np.array_equal(label, each) for each in empty) else share(label, class_ids, size)
        )

    monkeypatch.setattr(perturbation, "_object_share", shown)
    table = perturbation.perturb("pocket-sd3", task, RunOptions(limit=4, results=tmp_path), 0.1)
    assert table.groupby("measure")["images"].unique().map(list).to_dict() == {
        "change_objects": [2],
        "change_rest": [3],
        "loss": [4],
        "miou": [4],
    }
    assert table.loc[table["measure"] != "miou", ["mean", "low", "high", "rho"]].notna().all(axis=None)


def test_pixels_of_merged_labels_are_those_of_the_class_that_is_prompted(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = task.dataset[0].label
    (shown,) = (int(id) for id in np.unique(raw) if id != task.dataset.background)
    other = shown % 12 + 1
    merged = replace(task, protocol=replace(task.protocol, merged_labels=((shown, other),)))
    labels: list[NDArray[np.uint8]] = []
    monkeypatch.setattr(perturbation, "_object_share", lambda label, _, size: labels.append(label) or torch.ones(size))
    backbone, method = build_backbone("pocket-sd3"), build_method("seg4diff-described", "pocket-sd3")
    measure(backbone, merged, method, 0.1, RunOptions(limit=1, batch=1))
    monkeypatch.setattr(
        features_module, "grid_labels", lambda label, _: labels.append(label) or np.zeros(256, np.uint8)
    )
    with pytest.raises(UserError, match="two classes"):
        features_module.features_on("pocket-sd3", merged, RunOptions(limit=1))
    assert len(labels) >= 2
    for label in labels:
        np.testing.assert_array_equal(label == other, raw == shown)


def test_components_of_a_picture_in_a_subfolder_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = features_module.FeaturePictures("a/b", np.zeros((4, 4, 3), np.uint8), {})
    monkeypatch.setattr(features_module, "features_on", lambda *_: (pd.DataFrame({"x": [1]}), pictures))
    monkeypatch.setattr(modalities, "printable", lambda *_: "")
    monkeypatch.setattr(analyses, "analysis_figure", lambda table, view, path: None)
    shown: list[Path] = []
    monkeypatch.setattr(feature_figure, "features_figure", lambda pixels, maps, path: shown.append(path))
    main(["features", "pocket-sd3", "--results", str(tmp_path)])
    assert shown == [tmp_path / "analysis" / "pocket-sd3-pocket-val-standard-features-a-b.png"]


def test_the_commands_write_the_same_files_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written: list[list[bytes]] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        rest = ["pocket-sd3", "--limit", "2", "--results", str(folder)]
        main(["perturb", *rest])
        main(["features", *rest])
        written.append([path.read_bytes() for path in sorted((folder / "analysis").glob("*.*"))])
    assert written[0] == written[1]
    assert len(written[0]) == 5
    printed = capsys.readouterr().out
    assert "rank correlation over blocks of the mIoU alone with: velocity on objects +" in printed
    stem = tmp_path / "one" / "analysis" / "pocket-sd3-pocket-val-standard"
    table = pd.read_csv(f"{stem}-width0.1-perturb-first2.csv")
    parts = parts_of("pocket-sd3", build_backbone("pocket-sd3").sites(64), None, heads=False)
    task = build_task("pocket", build("protocol", "standard"), RunOptions())
    options = RunOptions(limit=2, results=tmp_path / "one")
    alone = evaluate_parts(LayerAnalysis("seg4diff-described", parts), "pocket-sd3", task, options)
    np.testing.assert_allclose(table[table["measure"] == "miou"]["mean"], alone["miou"])
    assert pd.read_csv(f"{stem}-features-first2.csv")["images"].tolist() == [2] * 6 * 12
    assert Path(f"{stem}-features-first2-val-00000.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_with_blurred_blocks_are_beside_the_other_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        generation_settings, "load_config", lambda *_, **__: {"sampling": {"steps": 2, "guidance": 3.0}}
    )
    shown: list[AnalysisView] = []
    monkeypatch.setattr(analyses, "analysis_figure", lambda _, view, path: shown.append(view))
    main(["perturb", "pocket-sd3", "--generate", "3", "--limit", "2", "--results", str(tmp_path)])
    table = pd.read_csv(tmp_path / "analysis" / "pocket-sd3-pocket-val-standard-width0.1-perturb-generate3-first2.csv")
    lost = table[table["measure"] == "lost_f1"]
    assert table.groupby("measure")["images"].unique().map(list)[["lost_f1", "miou", "loss"]].tolist() == [
        [3],
        [2],
        [2],
    ]
    assert lost["site"].tolist() == table[table["measure"] == "miou"]["site"].tolist()
    records = [power.record for power in find_power(tmp_path)]
    assert {record.images for record in records} == {3}
    f1 = {(each.plan.settings.guidance_method, each.plan.settings.site): each.measures["f1"].value for each in records}
    for site, mean in zip(lost["site"], lost["mean"], strict=True):
        assert mean == pytest.approx(100 * (f1["cfg", None] - f1["blurred-block", site]))
    assert "F1 lost " in capsys.readouterr().out
    (view,) = shown
    assert [title.partition("\n")[0] for title in view.panels] == [*GENERATED_VIEW.panels]


def test_images_of_a_single_class_are_left_out(task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(features_module, "grid_labels", lambda *_: np.zeros(256, np.uint8))
    with pytest.raises(UserError, match="two classes"):
        features_module.features_on("pocket-sd3", task, RunOptions(limit=1, results=tmp_path))
