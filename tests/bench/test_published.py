from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from segscale.bench.commands.main import main
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.layout import formatted
from segscale.bench.report.published import NOTE, beside_published, comparable, read_published
from segscale.bench.report.tables import long_table, table_rows
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods
from segscale.catalogue import KINDS, config_file
from segscale.errors import UserError
from segscale.registry import build, load_config

from .cells import run_named

PAPER = Path(__file__).parents[2] / "results" / "paper.csv"
# Of GoCA's paper, VOC. Its other rows (vanilla, layers by hand, all) are those of its main table.
ABLATION = [
    ("Heads alone", "SD v1.5", 44.8),
    ("Heads alone", "SDXL", 56.1),
    ("Layers alone", "SD v1.5", 52.1),
    ("Layers alone", "SDXL", 51.3),
    ("Rescaling alone", "SD v1.5", 52.6),
    ("Rescaling alone", "SDXL", 51.4),
]
ARXIV = {"GoCA": "2603.06178", "Seg4Diff": "2509.18096"}


def test_the_table_of_facts_is_what_was_handed_over(seg4diff_parity: Path) -> None:
    with (seg4diff_parity / "paper-results.csv").open() as file:
        given = list(csv.DictReader(file))
    ours = read_published(PAPER).to_dict("records")
    assert [(row["method"], row["backbone"], row["miou"]) for row in ours[len(given) :]] == ABLATION
    for here, there in zip(ours, given, strict=False):
        assert here["arxiv"] == ARXIV[there["paper"]]
        assert here["miou"] == float(there["mIoU"])
        for column in ("paper", "method", "backbone", "training", "dataset", "protocol"):
            assert here[column] == there[column]


def test_every_name_that_is_compared_exists_here() -> None:
    rows = comparable(read_published(PAPER))
    for kind in set(KINDS) - {"sweep"}:
        for name in rows[kind].unique():
            config_file(kind, name)
    for row in rows.to_dict("records"):
        protocol = build("protocol", row["protocol"])
        methods = [method.name for method in build_methods([row["method"]], row["backbone"], protocol)]
        assert methods == [row["method"]]
        assert row["dataset"] in protocol.datasets


def test_what_was_trained_or_has_no_counterpart_is_not_compared() -> None:
    rows = comparable(read_published(PAPER))
    assert not rows.duplicated(["backbone", "method", "dataset", "protocol"]).any()
    goca = rows[rows["protocol"] == "goca"]
    # Vanilla and GoCA on four backbones, baseline on one, five datasets each; the ablation on two and one.
    assert len(goca) == 45 + len(ABLATION)
    assert set(rows[rows["protocol"] == "seg4diff"]["published"]) == {
        *(89.2, 62.0, 49.0, 34.2, 26.5),
        *(86.1, 57.8, 43.4, 30.7, 23.8),
        *(83.1, 50.6, 38.2, 23.9, 17.1),
    }


def test_the_ablation_stands_beside_its_methods() -> None:
    rows = comparable(read_published(PAPER)).set_index(["protocol", "dataset", "method", "backbone"])["published"]
    voc = {
        "vanilla": (44.3, 51.1),
        "goca-heads": (44.8, 56.1),
        "goca-layers": (52.1, 51.3),
        "goca-rescale": (52.6, 51.4),
        "goca": (60.7, 65.6),
    }
    for method, published in voc.items():
        assert tuple(rows["goca", "voc", method, backbone] for backbone in ("sd15", "sdxl")) == published
    assert rows["goca", "voc", "baseline", "sd15"] == 51.1


def renamed(path: Path, names: dict[str, str]) -> pd.DataFrame:
    """The one stored run, as if it were of other names."""
    return long_table(evaluate_runs(path)).assign(**names)


def test_published_numbers_are_of_the_split_that_their_protocol_evaluates() -> None:
    for row in table_rows(comparable(read_published(PAPER))):
        asked = build("protocol", row["protocol"]).dataset_arguments(row["dataset"])
        assert row["split"] == asked.get("split", load_config("dataset", row["dataset"])["split"])


def test_a_run_stands_beside_its_published_number(tmp_path: Path) -> None:
    run_named("pocket-sd15", ["goca"], "pocket", "goca", RunOptions(limit=2, results=tmp_path))
    published = read_published(PAPER)
    rows = renamed(tmp_path, {"backbone": "sd15", "dataset": "voc", "split": "train"})
    (row,) = table_rows(beside_published(rows, published))
    assert (row["published"], row["arxiv"]) == (60.7, "2603.06178")
    assert row["difference"] == row["miou"] - 60.7
    assert NOTE in formatted(beside_published(rows, published), "github")
    for other in (
        {"backbone": "sd15 (untrained)"},
        {"protocol": "standard"},
        {"dataset": "context59"},
        {"split": "val"},
    ):
        assert beside_published(rows.assign(**other), published)["published"].isna().all()


def test_the_command_says_where_nothing_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "--limit", "1", "--results", str(tmp_path)])
    main(["table", "--paper", str(PAPER), "--results", str(tmp_path)])
    assert capsys.readouterr().out.endswith("No stored run has a published counterpart.\n")


@pytest.mark.parametrize("content", [None, "", "paper,miou\nx,1\n", "paper,miou\nx,high\n"])
def test_another_file_is_one_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"paper\.csv"):
        read_published(path)
