"""Referring segmentation: prompts, protocol, and metrics from stored areas."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segscale.bench.commands.main import main
from segscale.bench.evaluation.pixel_counts import PixelCounts
from segscale.bench.evaluation.referring import referring_score, sample_ious
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.referring import referring_table, referring_text
from segscale.bench.report.tables import CUT_MARK
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_task
from segscale.bench.tasks.task import Task
from segscale.datasets.prompts.expressions import expression_prompt, head_noun
from segscale.errors import UserError
from segscale.methods.method import PromptRule
from segscale.registry import build

from .cells import run_named

BACKBONE = "pocket-sd15"


def task(protocol_name: str) -> Task:
    return build_task("pocket-referring", build("protocol", protocol_name), RunOptions())


@pytest.mark.parametrize(
    ("expression", "noun"),
    [
        ("the left star", "star"),
        ("the larger ring", "ring"),
        ("woman in a red coat", "woman"),
        ("man on the left", "man"),
        ("the two giraffes", "giraffes"),
        ("a guy who holds a bat", "guy"),
        ("left zebra, facing us", "zebra"),
        ("a t-shirt", "t-shirt"),
        ("on the left", "left"),
        ("him", "him"),
        ("the", "the"),
        ("?", "?"),
    ],
)
def test_the_head_noun_of_an_expression(expression: str, noun: str) -> None:
    assert expression[slice(*head_noun(expression))] == noun


def test_prompts_know_the_words_of_the_target_and_of_background() -> None:
    whole = expression_prompt("the left star", head_alone=False, background=["background"])
    head = expression_prompt("the left star", head_alone=True, background=["background"])
    assert whole.text == head.text == "the left star, background"
    assert [whole.text[slice(*word.spans[0])] for word in whole.classes + whole.background] == [
        "the left star",
        "background",
    ]
    assert [word.spans for word in head.classes] == [((9, 13),)]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (PromptRule(), "{}, background"),
        (PromptRule("published", "first-substring"), "{}, background"),
        (PromptRule("names", "counted"), "{}"),
        (PromptRule("each"), "{}"),
    ],
)
def test_every_method_is_asked_the_expression(rule: PromptRule, text: str) -> None:
    asking = task("referring")
    sample = asking.dataset[3]
    (group,) = asking.present_prompts(rule, sample).groups
    assert group.prompt.text == text.format(sample.caption)
    assert (group.class_ids, group.prompt.location) == ((1,), rule.location)


def test_expressions_and_other_data_do_not_mix() -> None:
    with pytest.raises(UserError, match="pocket has no expressions, which protocol referring does not suit"):
        build_task("pocket", build("protocol", "referring"), RunOptions())
    with pytest.raises(UserError, match="pocket-referring has an expression per sample"):
        build_task("pocket-referring", build("protocol", "standard"), RunOptions())


# Samples: half of two, nothing of one, all of one, rightly nothing, wrongly something.
INTERSECTION, PREDICTED, LABEL = [50, 0, 80, 0, 0], [50, 10, 80, 0, 5], [100, 10, 80, 0, 0]


def counts() -> PixelCounts:
    columns = (np.array(column) for column in (INTERSECTION, PREDICTED, LABEL))
    return PixelCounts(*(np.stack([200 - column, column], axis=1) for column in columns))


def test_metrics_have_their_known_values() -> None:
    assert sample_ious(PixelCounts(*(part[:, 1:] for part in vars(counts()).values()))).tolist() == [0.5, 0, 1, 1, 0]
    # Three times each: a class that fewer than five samples show carries no interval.
    three = PixelCounts(*(np.tile(part, (3, 1)) for part in vars(counts()).values()))
    score = referring_score(three, target=1)
    assert score.ciou.value == pytest.approx(130 / (100 + 20 + 80 + 5))
    assert score.giou.value == pytest.approx(0.5)
    # An IoU of just one half does not count.
    assert [share.value for share in score.precision] == pytest.approx([0.4] * 5)
    for estimate in (score.ciou, score.giou, *score.precision):
        low, high = estimate.bounds
        assert 0 <= low <= estimate.value <= high <= 1


def test_what_is_never_found_has_the_interval_of_a_share_or_none() -> None:
    nothing, label = np.zeros((20, 2), np.int64), np.full((20, 2), 100)
    score = referring_score(PixelCounts(nothing, label, label), target=1)
    for share in score.precision:
        assert (share.value, *share.bounds) == pytest.approx((0, 0, 0.161125), abs=1e-6)
    for estimate in (score.ciou, score.giou):
        assert (estimate.value, estimate.no_interval) == (0, "as low or as high as can be, whichever image is left out")


def test_methods_run_and_the_table_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = RunOptions(limit=3, results=tmp_path)
    methods = ["vanilla", "goca", "seg4diff-described"]
    for protocol_name in ("referring", "referring-head"):
        run_named(BACKBONE, methods, "pocket-referring", protocol_name, options)
    main(["table", "--results", str(tmp_path)])
    text = capsys.readouterr().out
    (header,) = {line for line in text.splitlines() if "cIoU" in line}
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        *("method", "backbone", "samples", "cIoU", "gIoU"),
        *("P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9"),
    ]
    assert "pocket-referring val, protocol referring-head, in percent" in text
    assert sum(line.startswith("| vanilla ") and "| 3 " in line for line in text.splitlines()) == 2
    main(["leaderboard", "--results", str(tmp_path)])
    board = (tmp_path / "leaderboard.md").read_text()
    assert board.index("## Referring segmentation") < board.index(header) < board.index("Pocket backbones are tiny")
    table = pd.read_csv(tmp_path / "referring.csv").set_index(["protocol", "method"])
    scaling = pd.read_csv(tmp_path / "scaling.csv").set_index(["protocol", "method"])
    assert table["identity"].to_dict() == scaling["identity"].to_dict()
    assert table["samples"].tolist() == [3] * 6
    printed = [line for line in text.splitlines() if line.startswith("| goca ") and "| 3 " in line]
    for line, giou in zip(printed, table.xs("goca", level="method").sort_index()["giou"], strict=True):
        assert f"| {giou:.1f}" in line
        assert line in board


def test_the_table_tells_seeds_apart_and_marks_what_was_cut(tmp_path: Path) -> None:
    for seed in (0, 1):
        run_named(
            BACKBONE, ["vanilla"], "pocket-referring", "referring", RunOptions(limit=1, results=tmp_path, seed=seed)
        )
    table = referring_table(evaluate_runs(tmp_path))
    assert sorted(table["label"]) == [f"{BACKBONE}, seed 0", f"{BACKBONE}, seed 1"]
    cut = table.assign(cut_classes=[1, 0], not_finite=0).sort_values("label")
    *_, first, second = (line for line in referring_text(cut).splitlines() if line.startswith("| vanilla "))
    assert [CUT_MARK in line for line in (first, second)] == [bool(each) for each in cut["cut_classes"]]


def test_a_table_without_expressions_has_no_such_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_named(BACKBONE, ["vanilla"], "pocket", "standard", RunOptions(limit=2, results=tmp_path))
    main(["table", "--results", str(tmp_path)])
    assert "cIoU" not in capsys.readouterr().out
    assert not (tmp_path / "referring.csv").exists()
