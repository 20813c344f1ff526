"""Figures: nothing covers another thing, styles are told apart, and the same runs give the same bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from segscale.bench.commands.main import main
from segscale.bench.report.evaluated import EvaluatedRun
from segscale.bench.report.figures.classes import class_figure
from segscale.bench.report.figures.cost import cost_figure
from segscale.bench.report.figures.examples import Example, chosen_examples, example_figure
from segscale.bench.report.figures.points import Point, is_on_line
from segscale.bench.report.figures.scaling import scaling_figure
from segscale.bench.report.figures.style import COLOURS, drawn, log_ticks, styles
from segscale.bench.report.figures.thresholds import Sweep, threshold_figure
from segscale.bench.report.figures.write import figures
from segscale.bench.runs.options import RunOptions
from segscale.datasets.colours import lab

from .cells import evaluated, run_named


def _matrix(*values: float) -> NDArray[np.float64]:
    return np.array(values).reshape(3, 3)


METHODS = tuple(f"method-{number}" for number in range(12))
# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009.
DEFICIENCIES = {
    "normal": np.eye(3),
    "protanopia": _matrix(0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998),
    "deuteranopia": _matrix(0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.04294, 0.968881),
    "tritanopia": _matrix(1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039),
}


def runs_of(sizes: dict[str, float], methods: tuple[str, ...] = METHODS[:3]) -> list[Point]:
    """Runs of methods on backbones of such sizes in millions."""
    return [
        Point(
            task="d val, protocol p",
            method=method,
            label=name,
            millions=size,
            miou=60.0 + 3 * place,
            low=55.0 + 3 * place,
            high=65.0 + 3 * place,
            seconds=0.01 * size,
            is_on_line="untrained" not in name,
            has_best_threshold=False,
        )
        for name, size in sizes.items()
        for place, method in enumerate(methods)
    ]


def scaled(sizes: dict[str, float], methods: tuple[str, ...] = METHODS[:3]) -> Figure:
    figure = scaling_figure(runs_of(sizes, methods), styles(methods))
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def boxes(figure: Figure, texts: list[Text]) -> list[Bbox]:
    assert isinstance(figure.canvas, FigureCanvasAgg)
    return [text.get_window_extent(figure.canvas.get_renderer()) for text in texts]


def overlap(first: Bbox, second: Bbox) -> bool:
    return Bbox.intersection(first, second) is not None


CROWDED = [
    {"a": 1.0},
    {"pocket-sd15": 1.1, "pocket-pixart-sigma": 1.2, "pocket-sdxl": 1.5, "pocket-flux": 1.7, "pocket-sd3": 2.0},
    {f"backbone-of-a-long-name-{number}": 1.0 + number / 1000 for number in range(8)},
    {"sd15": 860, "sd3": 2000, "sdxl": 2600, "flux, seed 3, dtype bfloat16": 11900},
]


@pytest.mark.parametrize("sizes", CROWDED, ids=["one", "pocket", "equal sizes", "real"])
def test_no_label_is_over_another_or_outside_or_on_a_point(sizes: dict[str, float]) -> None:
    figure = scaled(sizes)
    (axes,) = figure.axes
    labels = [text for text in axes.texts if text.get_text()]
    assert {text.get_text() for text in labels} == sizes.keys()
    places = boxes(figure, labels)
    assert not any(overlap(first, second) for first, second in combinations(places, 2))
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 for box in places)
    highest = axes.transData.transform((1, 60.0 + 3 * 2 + 5))[1]
    assert min(box.y0 for box in places) > highest


@pytest.mark.parametrize("sizes", CROWDED, ids=["one", "pocket", "equal sizes", "real"])
def test_axes_have_three_ticks_and_a_legend_takes_nothing_from_the_plot(sizes: dict[str, float]) -> None:
    small, large = scaled(sizes, METHODS[:1]), scaled(sizes, METHODS)
    for figure in (small, large):
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 3
        (legend,) = figure.legends
        assert isinstance(figure.canvas, FigureCanvasAgg)
        renderer = figure.canvas.get_renderer()
        tight = axes.get_tightbbox(renderer)
        assert tight is not None
        assert not overlap(legend.get_window_extent(renderer), tight)
    assert small.axes[0].get_window_extent().bounds == large.axes[0].get_window_extent().bounds


@pytest.mark.parametrize(("low", "high"), [(1, 1.01), (1, 2.4), (0.02, 0.05), (7e8, 1.3e10), (1e-3, 1e3)])
def test_logarithmic_ticks_are_at_least_three_and_not_many(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_lines_join_the_backbones_of_a_method_but_no_untrained_one() -> None:
    figure = scaling_figure(runs_of({"a": 1, "b": 2, "b (untrained)": 2}, METHODS[:1]), styles(METHODS[:1]))
    assert figure is not None
    lines = [line for line in figure.axes[0].lines if line.get_color() == COLOURS[0] and len(line.get_xdata()) == 2]
    assert [[*line.get_ydata()] for line in lines if line.get_linestyle() == "-"] == [[60.0, 60.0]]


def test_references_and_aligned_backbones_are_on_no_line() -> None:
    row = {"backbone": "pocket-sd3", "training": "none"}
    assert is_on_line(row)
    others = ({"training": "masks"}, {"backbone": "pocket-sd3 + LoRA ab12"}, {"backbone": "pocket-sd3 (untrained)"})
    assert not any(is_on_line(row | other) for other in others)


def test_methods_are_told_apart() -> None:
    looks = styles(f"m{number}" for number in range(40))
    assert len({*looks.values()}) == 40
    rgb: NDArray[np.float64] = np.array([to_rgb(colour) for colour in COLOURS]) ** 2.2
    for name, matrix in DEFICIENCIES.items():
        seen = (rgb @ matrix.T).clip(0, 1) ** (1 / 2.2)
        places = lab(255 * seen)
        nearest = min(float(np.linalg.norm(a - b)) for a, b in combinations(places, 2))
        assert nearest > 7, name


def test_the_same_figure_gives_the_same_bytes() -> None:
    for image_format in ("png", "svg"):
        assert drawn(scaled(CROWDED[1]), image_format) == drawn(scaled(CROWDED[1]), image_format)
    assert ElementTree.fromstring(drawn(scaled({"a$b$": 1}), "svg")).tag.endswith("svg")


def test_bars_of_classes_are_sorted_and_the_middle_of_many_is_left_out() -> None:
    classes = [f"class {number}" for number in range(60)]
    ious = np.linspace(0, 90, 60)
    ious[3] = np.nan
    figure = class_figure(classes, {"m": ious}, styles(["m"]), "t")
    assert figure is not None
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert (len(names), names[0], names[-1]) == (40, "class 59", "class 0")
    assert "class 3" not in names
    assert "the best and the worst 20 of 59 classes" in figure.axes[0].get_title()
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == sorted(widths, reverse=True)
    assert class_figure(classes, {"m": np.full(60, np.nan)}, styles(["m"]), "t") is None


def test_a_threshold_curve_marks_what_tables_read() -> None:
    sweep = Sweep((-0.1, 0.0, 0.1), (10.0, 30.0, 20.0), 0.1)
    figure = threshold_figure({"m": sweep, "other": Sweep((0.0,), (5.0,), 0.0)}, styles(["m", "other"]), "t")
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert line.get_markevery() == [2]
    assert [*line.get_ydata()] == [10.0, 30.0, 20.0]
    assert threshold_figure({"other": Sweep((0.0,), (5.0,), 0.0)}, styles(["other"]), "t") is None


def test_cost_needs_times() -> None:
    runs = runs_of(CROWDED[1])
    figure = cost_figure(runs, styles(METHODS), "t")
    assert figure is not None
    assert len(figure.axes[0].lines) == len(runs)
    assert cost_figure([replace(run, seconds=0.0) for run in runs], styles(METHODS), "t") is None


def test_examples_are_the_best_the_median_the_worst_and_a_random_one() -> None:
    miou = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.4, "e": float("nan")}
    chosen = chosen_examples([*miou], miou)
    assert chosen == [Example("best", "b"), Example("median", "d"), Example("worst", "c"), Example("random", "a")]
    assert chosen_examples([*reversed(miou)], miou) == chosen
    assert chosen_examples(["a"], miou) == [Example("best", "a")]
    assert chosen_examples(["e"], miou) == []


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on four images, whose masks were kept."""
    folder = tmp_path_factory.mktemp("results")
    run_named(
        "pocket-sd15", ["vanilla", "goca"], "pocket", "standard", RunOptions(limit=4, results=folder, save_masks=4)
    )
    return folder


def test_the_command_writes_every_figure(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["figures", "--results", str(results)])
    task = "pocket-val-standard"
    stems = [f"scaling-{task}", f"cost-{task}"]
    stems += [f"{kind}-{task}-pocket-sd15" for kind in ("classes", "thresholds", "examples")]
    names = {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}
    assert {path.name for path in (results / "figures").iterdir()} == names
    printed = capsys.readouterr().out
    for name in names:
        assert f"wrote {results / 'figures' / name}" in printed
    assert Image.open(results / "figures" / f"scaling-{task}.png").size > (600, 400)


def test_examples_show_image_label_and_masks(results: Path) -> None:
    stores = run_named(
        "pocket-sd15", ["vanilla", "goca"], "pocket", "standard", RunOptions(limit=4, results=results, save_masks=4)
    )
    runs: dict[str, EvaluatedRun] = {store.read().plan.method.name: evaluated(store) for store in stores}
    figure = example_figure(runs, "t")
    assert figure is not None
    cells: list[Axes] = figure.axes
    assert [axes.get_title() for axes in cells[:4]] == ["image", "label", "vanilla", "goca"]
    assert [axes.get_ylabel().split("\n")[0] for axes in cells[::4]] == ["best", "median", "worst", "random"]
    assert all(axes.get_xlabel().endswith(" %") for axes in (*cells[2::4], *cells[3::4]))
    assert [name for name, draw in figures([*runs.values()]) if draw() is None] == []
    # A kill between the mask and the part leaves an image with a mask and without counts.
    counted = frozenset(runs["goca"].counts.images[1:])
    figure = example_figure(runs | {"goca": runs["goca"].only(counted)}, "t")
    assert figure is not None
    assert {axes.get_ylabel().split("\n")[-1] for axes in figure.axes[::4]} == counted


def test_a_task_of_one_backbone_shows_no_scaling() -> None:
    alone = [replace(run, task="e val, protocol p") for run in runs_of({"a": 1})]
    several = runs_of({"a": 1, "b": 2})
    for runs in (alone, alone + several, several):
        figure = scaling_figure(runs, styles(METHODS[:3]))
        assert figure is not None
        assert [axes.get_title()[0] for axes in figure.axes] == [runs[-1].task[0]]
