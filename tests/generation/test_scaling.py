"""The scaling question on runs and measurements whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import linregress, spearmanr

from segscale.bench.commands.main import main
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.generation import bootstrap, scaling_figure
from segscale.bench.generation.bootstrap import resample
from segscale.bench.generation.choices import ScalingQuestion
from segscale.bench.generation.configuration_replicates import ConfigurationReplicates, by_configuration
from segscale.bench.generation.correlations import (
    lead,
    over_configurations,
    partial_spearman,
    slope,
    spearman,
    statistics,
)
from segscale.bench.generation.frechet import Gaussian, fit_gaussian, frechet_distance
from segscale.bench.generation.power_record import (
    Measure,
    PowerRecord,
    StoredPower,
    find_power,
    read_power,
    rows_digest,
    write_power,
)
from segscale.bench.generation.published_power import read_published_power
from segscale.bench.generation.record import PicturePlan, SamplingSettings
from segscale.bench.generation.scaling import Subject, measured_subjects, published_subjects
from segscale.bench.generation.scaling_figure import LABELS, power_figure
from segscale.bench.generation.scaling_tables import OTHER_RUNGS, statistics_text
from segscale.bench.report.evaluated import EvaluatedRun, evaluate_run, evaluate_runs
from segscale.bench.report.thresholds import Thresholds
from segscale.bench.runs.identity import BackboneIdentity
from segscale.bench.runs.store import RunStore
from segscale.errors import StoreError, UserError
from segscale.places import place

from ..bench.stored_runs import PLAN, image_record, new_run

IMAGES = [f"image-{number:02d}" for number in range(30)]
PICTURES = 40
STEPS = (60, 125, 250, 500)
QUESTION = ScalingQuestion("pocket", "goca", ("vanilla", "goca"))


def run_of(
    results: Path,
    backbone: BackboneIdentity,
    method: str,
    share: float,
    split: str = "val",
    protocol_variant: str = "",
    method_variant: str = "",
    **others: Any,
) -> EvaluatedRun:
    """A run that is right in about this share of all pixels."""
    protocol = replace(PLAN.task.protocol, name="goca", variant=protocol_variant)
    task = replace(PLAN.task, dataset=replace(PLAN.task.dataset, name="pocket", split=split), protocol=protocol)
    kept = replace(PLAN.method, name=method, variant=method_variant)
    plan = replace(PLAN, backbone=backbone, method=kept, task=task, **others)
    store = RunStore(results / "runs" / backbone.name / method / "pocket" / plan.run_id)
    store.start(replace(new_run(plan), split_images=len(IMAGES), parameters=1000), IMAGES)
    rng = np.random.default_rng(0)
    label = np.full(3, 1000)
    counts = [np.round(label * np.clip(share + rng.normal(0, 0.05, 3), 0, 1)).astype(np.int64) for _ in IMAGES]
    records = [
        image_record(image, PixelCounts(np.stack([right] * 2), np.stack([label] * 2), label), 3000)
        for image, right in zip(IMAGES, counts, strict=True)
    ]
    store.append(records)
    return evaluate_run(store, Thresholds(results))


def power_of(backbone: BackboneIdentity, share: float) -> StoredPower:
    """Pictures that show this share of what is named and little else, with latents as far from the reference."""
    rng = np.random.default_rng(1)
    named = rng.integers(1, 4, PICTURES)
    hits = rng.binomial(named, share)
    features = {f"feature_{i}": (1 - share) * 3 + rng.normal(size=PICTURES) for i in range(2)}
    shown = np.maximum(hits, 1)
    pictures = pd.DataFrame({"id": np.arange(PICTURES).astype(str), "named": named, "shown": shown, "hits": hits})
    pictures = pictures.assign(**features)
    plan = PicturePlan(backbone, SamplingSettings(64, 20, 3.0, "cfg", 0), "pocket-captions-val", "digest", "1")
    measures = {"f1": Measure(2 * hits.sum() / (named + shown).sum(), 0.1, 0.9, by_chance=0.2)}
    digest = rows_digest(pictures)
    return StoredPower(PowerRecord(plan, plan.plan_id, 1000, PICTURES, {"judge": "x"}, measures, digest), pictures)


def backbone(name: str) -> BackboneIdentity:
    return replace(PLAN.backbone, name=name, options={"denoiser_weights": name})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four rungs of sd15 and two seeds of one; mIoU and power grow together, goca's gain shrinks."""
    monkeypatch.setattr(bootstrap, "load_reference", lambda: Gaussian(np.zeros(2), np.eye(2)))
    for number, steps in enumerate(STEPS):
        for seed in (0, 1) if steps == 250 else (0,):
            rung = backbone(f"pocket-sd15-{steps}-seed{seed}")
            run_of(tmp_path, rung, "vanilla", 0.2 + 0.15 * number)
            run_of(tmp_path, rung, "goca", 0.35 + 0.12 * number)
            write_power(tmp_path, power_of(rung, 0.1 + 0.25 * number))
    return tmp_path


def subjects_of(folder: Path) -> list[Subject]:
    return measured_subjects(QUESTION, evaluate_runs(folder), find_power(folder))


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second, third = rng.normal(size=(3, 4, 9))
    for row in range(4):
        assert spearman(first, second)[row] == pytest.approx(spearmanr(first[row], second[row])[0])
        assert slope(first, second)[row] == pytest.approx(linregress(second[row], first[row])[0])
        ranks = [np.argsort(np.argsort(values[row])).astype(float) for values in (first, second, third)]
        one, two = (values - np.polyval(np.polyfit(ranks[2], values, 1), ranks[2]) for values in ranks[:2])
        assert partial_spearman(first, second, third)[row] == pytest.approx(np.corrcoef(one, two)[0, 1])


def test_nothing_is_left_to_correlate_where_the_fixed_quantity_sets_the_order() -> None:
    first, second = np.array([[1.0, 2, 3, 4]]), np.array([[2.0, 1, 4, 3]])
    assert np.isnan(partial_spearman(first, second, 10 * first)[0])


def test_the_first_replicate_is_the_sample_itself(folder: Path) -> None:
    subjects = subjects_of(folder)
    replicates = by_configuration(resample(subjects, replicates=50).backbones)
    by_name = {subject.name: subject for subject in subjects}
    for number, name in enumerate(replicates.configurations):
        seeds = [by_name[name]] + ([by_name[name.replace("seed0", "seed1")]] if "-250-" in name else [])
        assert replicates.miou["goca"][0, number] == pytest.approx(
            np.mean([100 * subject.runs["goca"].miou.value for subject in seeds])
        )
        assert replicates.power["f1"][0, number] == pytest.approx(
            np.mean([100 * subject.power.record.measures["f1"].value for subject in seeds])  # type: ignore[union-attr]
        )
    assert len(replicates.configurations) == len(STEPS)
    assert replicates.miou["goca"].shape == (51, len(STEPS))
    assert replicates.miou["goca"][1:].std(0).min() > 0


def test_every_measure_of_the_sample_is_that_of_its_pictures(folder: Path) -> None:
    subjects = subjects_of(folder)
    for subject, backbone in zip(subjects, resample(subjects, replicates=3).backbones, strict=True):
        assert subject.power is not None
        pictures = subject.power.pictures
        features = pictures[["feature_0", "feature_1"]].to_numpy(float)
        sums = pictures[["hits", "named", "shown"]].sum()
        assert backbone.power["recall"][0] == pytest.approx(100 * sums["hits"] / sums["named"])
        assert backbone.power["f1"][0] == pytest.approx(200 * sums["hits"] / (sums["named"] + sums["shown"]))
        distance = frechet_distance(fit_gaussian(features), Gaussian(np.zeros(2), np.eye(2)))
        assert backbone.power["frechet"][0] == pytest.approx(distance)


def test_images_and_prompts_are_drawn_alike_for_all_but_apart_from_each_other(folder: Path) -> None:
    replicates = by_configuration(resample(subjects_of(folder), replicates=200).backbones)
    vanilla, goca = (replicates.miou[name][1:, 0] for name in ("vanilla", "goca"))
    assert np.corrcoef(vanilla, goca)[0, 1] > 0.9
    assert abs(np.corrcoef(vanilla, replicates.power["f1"][1:, 0])[0, 1]) < 0.3


def test_what_was_built_in_is_found(folder: Path) -> None:
    table = statistics(by_configuration(resample(subjects_of(folder), replicates=100).backbones))
    rows = table.set_index(["statistic", "group", "method", "against"])["value"]
    assert rows["rho", "all", "vanilla", "f1"] == 1
    assert rows["rho", "all", "goca", "frechet"] == -1
    assert rows["slope of gain", "all", "goca - vanilla", "f1"] < 0
    assert (table["low"] <= table["high"]).all()
    ends = ["rungs_low", "rungs_high"]
    assert table.loc[table["statistic"] == "lead", ends].isna().all(None)
    slopes = table[table["statistic"] == "slope of gain"]
    assert (slopes["rungs_high"] - slopes["rungs_low"] > slopes["high"] - slopes["low"]).all()
    rhos = table[table["statistic"].str.startswith("rho") & table["value"].notna()]
    assert (rhos["rungs_low"] <= rhos["rungs_high"]).all()
    text = statistics_text(table)
    assert "| other rungs, too |" in re.sub(" +", " ", text)
    assert text.count(OTHER_RUNGS) == 1


def test_drawing_configurations_widens_what_few_of_them_decide() -> None:
    rng = np.random.default_rng(0)
    power = rng.normal(size=12)
    miou = power + rng.normal(size=12)
    exact = np.tile(power, (201, 1)), np.tile(miou, (201, 1))
    values, drawn = over_configurations(spearman, *exact)
    assert np.ptp(values) == 0
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert low < values[0] - 0.1 < values[0] < high
    again, once_more = over_configurations(spearman, *exact)
    assert np.array_equal(values, again)
    assert np.array_equal(drawn, once_more)


def test_nothing_is_related_to_power_that_is_the_same_for_all(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for steps, seeds in zip(STEPS, (1, 3, 6, 7), strict=True):
        for seed in range(seeds):
            rung = backbone(f"pocket-sd15-{steps}-width50-seed{seed}")
            for method in QUESTION.method_names:
                run_of(folder, rung, method, rng.uniform(0.2, 0.8))
            write_power(folder, power_of(rung, 1.0))
    narrow = [subject for subject in subjects_of(folder) if "width50" in subject.name]
    table = statistics(by_configuration(resample(narrow, replicates=20).backbones))
    assert not {*table[table["against"] == "recall"]["statistic"]} & {"rho", "slope of gain"}
    assert len(narrow) == 17
    assert np.isnan(slope(np.array([[1.0, 2, 3]]), np.array([[7.0, 7, 7]]))[0])


def test_the_lead_is_positive_where_miou_saturates_before_power() -> None:
    steps = np.array([60.0, 125, 500])
    miou = np.array([[10.0, 50, 60]])
    power = np.array([[20.0, 30, 90]])
    found = ConfigurationReplicates(
        ("a", "b", "c"), ("sd3",) * 3, ("steps",) * 3, steps, steps, {"vanilla": miou}, {"f1": power}
    )
    statistic = lead(found, "sd3", "vanilla")
    assert statistic is not None
    assert statistic.values[0] == pytest.approx(0.8 - 1 / 7)
    assert lead(found.only([True, False, True]), "sd3", "vanilla") is None


def test_rungs_of_equal_steps_are_a_group_of_their_own() -> None:
    steps = np.array([60.0, 500, 500, 500, 500, 500])
    power, miou = np.array([[1.0, 2, 3, 4, 5, 9]]), np.array([[90.0, 50, 40, 30, 20, 99]])
    families = ("sd15",) * 5 + ("sd3",)
    rungs = ConfigurationReplicates(
        tuple("abcdef"), families, ("width",) * 6, steps, steps, {"vanilla": miou}, {"f1": power}
    )
    repeated = replace(rungs, miou={"vanilla": np.tile(miou, (3, 1))}, power={"f1": np.tile(power, (3, 1))})
    table = statistics(repeated).set_index(["statistic", "group", "against"])
    assert table.loc[("rho", "sd15 at 500 steps", "f1"), "value"] == -1
    assert table.loc[("rho", "sd15 at 500 steps", "f1"), "configurations"] == 4
    assert not any(group.startswith("sd3") for group in table.index.get_level_values("group"))


def test_a_rung_is_set_against_the_common_one_of_its_family_and_steps() -> None:
    steps = np.array([250.0, 500, 500, 500])
    miou, power = np.array([[1.0, 50, 40, 7], [2, 52, 41, 7]]), np.array([[5.0, 60, 66, 7], [5, 60, 67, 7]])
    rungs = ConfigurationReplicates(
        ("less", "common-seed0", "wide-seed0", "other"),
        ("sd15", "sd15", "sd15", "sd3"),
        ("steps", "steps", "width", "depth"),
        steps,
        steps,
        {"vanilla": miou},
        {"f1": power, "frechet": power},
    )
    found = statistics(rungs).query("statistic == 'difference'")
    assert found[["group", "method", "against", "value"]].to_numpy().tolist() == [
        ["wide", "vanilla", "common", -10.0],
        ["wide", "f1", "common", 6.0],
    ]
    assert found[["low", "high"]].to_numpy().tolist() == [[-11, -11], [7, 7]]


def labels_drawn(rows: Sequence[tuple[str, str, str, int | None]], measure: str, path: Path) -> list[str]:
    """What a figure of backbones, by name, family, varied and steps, calls them in the panel of a measure."""
    table = pd.DataFrame(rows, columns=["backbone", "family", "varied", "steps"]).astype({"steps": "Int64"})
    table = table.assign(f1=50.0, parameters=2e6, vanilla=40.0)
    drawn: dict[str, list[str]] = {}

    def keep(figure: Figure, _: Path) -> None:
        drawn.update({axes.get_xlabel(): [text.get_text() for text in axes.texts] for axes in figure.axes})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_figure, "save_figure", keep)
        power_figure(table, ["vanilla"], path)
    return sorted(drawn[LABELS[measure]])


def test_points_are_named_by_backbone_or_by_what_tells_rungs_apart(tmp_path: Path) -> None:
    real = [(name, name, "", None) for name in ("sd15", "sdxl", "flux")]
    twins = [("pocket-sd15", "sd15", "steps", 2000), ("pocket-flux", "flux", "", None)]
    rungs = [("pocket-sd15", "sd15", "steps", 2000)] + [
        (f"pocket-sd15-{part}-seed{seed}", "sd15", varied, steps)
        for part, varied, steps in (("60", "steps", 60), ("500-width50", "width", 500), ("500-noise30", "noise", 500))
        for seed in range(2)
    ]
    for measure in ("f1", "parameters"):
        assert labels_drawn(real, measure, tmp_path) == ["flux", "sd15", "sdxl"]
        assert labels_drawn(twins, measure, tmp_path) == ["flux", "sd15"]
    assert labels_drawn(rungs, "f1", tmp_path) == ["2000", "60", "noise30", "width50"]
    assert labels_drawn(rungs, "parameters", tmp_path) == ["width50"]


def test_the_command_writes_tables_and_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["scaling", "--protocol", "goca", "--results", str(folder)])
    printed = capsys.readouterr().out
    assert "Spearman's rho" in printed
    table = pd.read_csv(folder / "power.csv")
    assert table["backbone"].tolist() == sorted(table["backbone"])
    assert table.loc[table["backbone"] == "pocket-sd15-60-seed0", "f1_chance"].item() == 20
    assert (folder / "figures" / "power.png").stat().st_size > 10_000
    assert {"rho", "slope of gain", "lead"} <= set(pd.read_csv(folder / "power-statistics.csv")["statistic"])


def test_published_figures_take_the_place_of_measured_ones(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"me,0,pocket-sd15-{steps}-seed0,fid,{900 - steps},none" for steps in STEPS]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["source,arxiv,backbone,measure,value,conditions", *lines]))
    main(["scaling", "--protocol", "goca", "--published", str(path), "--results", str(folder)])
    numbers = pd.read_csv(folder / "published-power-statistics.csv").set_index(["statistic", "method", "against"])[
        "value"
    ]
    assert float(numbers.at["rho", "vanilla", "fid"]) == -1


def test_a_measure_is_over_the_backbones_that_have_it(folder: Path) -> None:
    """Of five that are on no ladder, one has its CLIP score alone, and only three have an FID."""
    subjects = [
        replace(subject, name=f"backbone {place}", power=None, published=published)
        for place, (subject, published) in enumerate(
            zip(
                subjects_of(folder),  # 125, 250, 250 again, 500 and 60 steps
                [
                    {"clip_score": 3.0, "geneval": 0.4, "fid": 9.0},
                    {"clip_score": 4.0, "geneval": 0.5, "fid": 8.0},
                    {"clip_score": 4.0},
                    {"clip_score": 5.0, "geneval": 0.6, "fid": 7.0},
                    {"clip_score": 2.0, "geneval": 0.7},
                ],
                strict=True,
            )
        )
    ]
    table = statistics(by_configuration(resample(subjects, replicates=20).backbones)).set_index(
        ["statistic", "method", "against"]
    )
    assert table.loc[("rho", "vanilla", "clip_score"), ["configurations", "value"]].tolist() == pytest.approx([5, 1])
    assert table.loc[("rho", "vanilla", "geneval"), ["configurations", "value"]].tolist() == pytest.approx([4, -0.2])
    assert table.loc[("slope of gain", "goca - vanilla", "geneval"), "configurations"] == 4
    assert "fid" not in table.index.get_level_values("against")


def test_the_packages_figures_can_be_read() -> None:
    published = read_published_power(Path(__file__).parents[2] / "results" / "paper-power.csv")
    assert published["sd15"] == {"geneval": 0.43}
    assert published["sdxl"]["fid"] == 6.63
    assert published["sd35-large"] == {"geneval": 0.71}


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "source,arxiv,backbone,measure,value,conditions\nx,1,b,fid,many,\n"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mine\.csv"):
        read_published_power(path)


def test_too_few_backbones_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="2 backbones have both"):
        measured_subjects(QUESTION, evaluate_runs(folder), find_power(folder)[:2])


def test_three_backbones_get_a_table_and_figure_but_no_correlation(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"me,0,pocket-sd15-{steps}-seed0,fid,{900 - steps},none" for steps in STEPS[:3]]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["source,arxiv,backbone,measure,value,conditions", *lines]))
    main(["scaling", "--protocol", "goca", "--published", str(path), "--results", str(folder)])
    assert "no correlation: fewer than 4 configurations" in capsys.readouterr().out
    assert len(pd.read_csv(folder / "published-power.csv")) == 3


def test_power_by_networks_is_resampled_where_pictures_have_scores(folder: Path) -> None:
    def by_networks(subject: Subject) -> Subject:
        assert subject.power is not None
        steps = float(subject.name.split("-")[2])
        scores = steps / 100 + np.random.default_rng(0).normal(size=PICTURES)
        pictures = pd.DataFrame({"id": np.arange(PICTURES).astype(str), "clip_score": scores})
        measures = {"fid": Measure(900 - steps, None, None), "clip_score": Measure(scores.mean(), None, None)}
        record = replace(subject.power.record, measures=measures)
        return replace(subject, power=StoredPower(record, pictures))

    subjects = [by_networks(subject) for subject in subjects_of(folder)]
    power = by_configuration(resample(subjects, replicates=50).backbones).power
    assert power.keys() == {"fid", "clip_score"}
    assert power["fid"].std(0).max() == 0
    assert power["clip_score"][1:].std(0).min() > 0
    rows = statistics(by_configuration(resample(subjects, replicates=50).backbones)).set_index(
        ["statistic", "method", "against"]
    )["value"]
    assert rows["rho", "vanilla", "clip_score"] == 1
    assert rows["rho", "vanilla", "fid"] == -1


@pytest.mark.parametrize(
    "other", [{"guidance_method": "blurred-block"}, {"guidance": 9.0}, {"steps": 3}, {"image_size": 128}]
)
def test_power_is_that_of_plain_guidance_as_recommended(folder: Path, other: dict[str, object]) -> None:
    plain = power_of(backbone("pocket-sd15-60-seed0"), 0.1)
    plan = replace(plain.record.plan, settings=replace(plain.record.plan.settings, **other))  # type: ignore[arg-type]
    more = StoredPower(replace(plain.record, plan=plan, plan_id=plan.plan_id, images=PICTURES + 1), plain.pictures)
    for powers in ([*find_power(folder), more], [more, *find_power(folder)]):
        subjects = measured_subjects(QUESTION, evaluate_runs(folder), powers)
        settings = [subject.power.record.plan.settings for subject in subjects if subject.power is not None]
        assert settings == [plain.record.plan.settings] * 5


@pytest.mark.parametrize(
    ("other", "chosen", "message"),
    [
        ({"split": "calibration"}, {"split": "val"}, "several splits (calibration, val); choose one with --split"),
        ({"seed": 1}, {"seed": 0}, "several seeds (0, 1); choose one with --seed"),
        ({"version": "2"}, None, "two runs of vanilla on pocket-sd15-60-seed0: "),
        ({"protocol_variant": "@x=1"}, {}, None),
        ({"method_variant": "@t=5"}, {}, None),
    ],
)
def test_runs_that_do_not_belong_together_are_not_joined(
    other: dict[str, Any], chosen: dict[str, Any] | None, message: str | None, folder: Path
) -> None:
    before = resample(subjects_of(folder)).table
    run_of(folder, backbone("pocket-sd15-60-seed0"), "vanilla", 0.9, **other)
    runs, powers = evaluate_runs(folder), find_power(folder)
    if message is not None:
        with pytest.raises(UserError, match=re.escape(message)):
            measured_subjects(QUESTION, runs, powers)
        with pytest.raises(UserError, match=re.escape(message)):
            published_subjects(QUESTION, runs, {name: {"fid": 1.0} for name in before["backbone"]})
    if chosen is not None:
        subjects = measured_subjects(replace(QUESTION, **chosen), runs, powers)
        pd.testing.assert_frame_equal(resample(subjects).table, before)


def again(power: StoredPower, prompts: str = "pocket-captions-val", seed: int = 0) -> StoredPower:
    """Measured on more pictures, of other captions or another seed."""
    plan = power.record.plan
    plan = replace(plan, prompts=prompts, settings=replace(plan.settings, seed=seed))
    return replace(power, record=replace(power.record, plan=plan, plan_id=plan.plan_id, images=PICTURES + 1))


@pytest.mark.parametrize("other", [{"prompts": "pocket-val"}, {"seed": 1}])
def test_pictures_that_do_not_belong_together_are_not_joined(other: dict[str, Any], folder: Path) -> None:
    runs, powers = evaluate_runs(folder), find_power(folder)
    few = measured_subjects(QUESTION, runs, [*powers, *(again(power, **other) for power in powers[:2])])
    pd.testing.assert_frame_equal(resample(few).table, resample(subjects_of(folder)).table)
    both = [*powers, *(again(power, **other) for power in powers)]
    pictures = r"pocket-captions-val digest, seed 0; pocket-(captions-)?val digest, seed [01]"
    with pytest.raises(UserError, match=rf"several sets of pictures \({pictures}\); choose one with --seed, or keep"):
        measured_subjects(QUESTION, runs, both)


def test_backbones_of_one_name_are_told_apart_or_refused(folder: Path) -> None:
    half = replace(backbone("pocket-sd15-60-seed0"), dtype="float16")
    for method in QUESTION.method_names:
        run_of(folder, half, method, 0.9)
    assert len(subjects_of(folder)) == 5  # whose power was measured
    powers = [*find_power(folder), power_of(half, 0.9)]
    with pytest.raises(UserError, match=r"runs of pocket-sd15-60-seed0 with other weights, precision or options; keep"):
        measured_subjects(QUESTION, evaluate_runs(folder), powers)


def test_an_object_store_holds_measurements() -> None:
    results, stored = place(f"memory://results/{token_hex(4)}"), power_of(backbone("b"), 0.5)
    write_power(results, stored)
    (again,) = find_power(results)
    assert again.record == stored.record
    pd.testing.assert_frame_equal(again.pictures, stored.pictures)


def by_networks(values: dict[str, float], clip: str = "a") -> StoredPower:
    stored = power_of(backbone("b"), 0.5)
    by = {"fid": ("inception", "digest"), "clip_score": ("clip", clip)}
    pictures = stored.pictures[["id"]]
    if "clip_score" in values:
        pictures = pictures.assign(clip_score=values["clip_score"])
    record = replace(
        stored.record,
        measured_by=dict(by[name] for name in values),
        measures={name: Measure(value, None, None) for name, value in values.items()},
        pictures_digest=rows_digest(pictures),
    )
    return StoredPower(record, pictures)


def test_what_one_network_measured_is_kept_when_another_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for first, second in (({"fid": 20.0}, {"clip_score": 30.0}), ({"clip_score": 30.0}, {"fid": 20.0})):
        path = write_power(tmp_path, by_networks(first))
        assert write_power(tmp_path, by_networks(second)) == path
        both = read_power(path)
        assert {name: each.value for name, each in both.record.measures.items()} == first | second
        assert both.record.measured_by == {"inception": "digest", "clip": "a"}
        assert both.pictures["clip_score"].tolist() == [30.0] * PICTURES
        path.unlink()
    write_power(tmp_path, by_networks({"fid": 20.0, "clip_score": 30.0}))
    again = read_power(write_power(tmp_path, by_networks({"clip_score": 31.0}, clip="b")))
    assert {name: each.value for name, each in again.record.measures.items()} == {"fid": 20.0, "clip_score": 31.0}
    assert again.record.measured_by == {"inception": "digest", "clip": "b"}
    assert "clip_score of b by a is replaced" in caplog.text
    path.write_text("{")
    write_power(tmp_path, by_networks({"clip_score": 31.0}))
    assert read_power(path).record.measured_by == {"clip": "a"}


def test_a_changed_measurement_is_refused(tmp_path: Path) -> None:
    stored = power_of(backbone("b"), 0.5)
    path = write_power(tmp_path, stored)
    again = read_power(path)
    assert again.record == stored.record
    pd.testing.assert_frame_equal(again.pictures, stored.pictures)
    path.write_text(path.read_text().replace('"images": 40', '"images": 41'))
    with pytest.raises(StoreError, match="not as it was written"):
        read_power(path)
    path = write_power(tmp_path, stored)
    stored.pictures.assign(hits=0).to_parquet(path.with_suffix(".parquet"), index=False)
    with pytest.raises(StoreError, match="not as it was written"):
        read_power(path)
    path = write_power(tmp_path, replace(stored, record=replace(stored.record, plan_id="0" * 12)))
    with pytest.raises(StoreError, match="of another version"):
        read_power(path)
    path.with_suffix(".parquet").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged"):
        read_power(path)
    assert find_power(tmp_path) == []
