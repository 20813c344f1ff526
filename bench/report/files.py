"""Writes the files of tables, leaderboard and analyses."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pandas as pd

from segscale.errors import UserError
from segscale.files import explained_writes, replaced, replaced_bytes
from segscale.places import make_folder

from ...backbones.loading.options import LoadOptions
from ..runs.options import RunOptions
from .figures.points import points
from .figures.scaling import scaling_figure
from .figures.style import drawn, styles
from .markdown import leaderboard, scaling_table
from .referring import referring_sections
from .tables import notes

ANALYSIS_FOLDER = "analysis"
"""Below the results: analyses, and the runs that they are made of."""
LONGEST_STEM, CUT_STEM = 200, 160
"""Bytes of a file's name, without its ending; longer ones are cut."""
DRAWN_RUNS = 500
"""More runs than these make a figure that takes minutes and that nobody can read."""


def write_tables(rows: pd.DataFrame, classes: pd.DataFrame, expressions: pd.DataFrame, results: Path) -> list[Path]:
    """The scaling table as text and, of not too many runs, figure, and all tables as CSV; returns what was written.

    ``expressions`` may be empty; then there is no file of them.
    """
    text, figure = results / "scaling.md", results / "figures/scaling.png"
    numbers = {results / "scaling.csv": rows, results / "classes.csv": classes}
    referring = results / "referring.csv"
    if len(expressions):
        numbers[referring] = expressions
    with explained_writes(results):
        if referring not in numbers:
            referring.unlink(missing_ok=True)
        write_text(text, "\n\n".join([scaling_table(rows), *notes(rows)]) + "\n")
        for path, table in numbers.items():
            write_text(path, table.to_csv(index=False))
        panels = scaling_figure(points(rows), styles(rows["method"])) if len(rows) <= DRAWN_RUNS else None
        if panels is None:
            return [text, *numbers]
        make_folder(figure.parent)
        with replaced_bytes(figure) as file:
            file.write(drawn(panels, "png"))
    return [text, *numbers, figure]


def write_leaderboard(rows: pd.DataFrame, expressions: pd.DataFrame, results: Path) -> Path:
    """Write leaderboard.md; returns its path."""
    path = results / "leaderboard.md"
    with explained_writes(results):
        write_text(path, leaderboard(rows, referring_sections(expressions)))
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, on this machine or in an object store."""
    with replaced(path) as file:
        file.write(text)


def result_stem(*parts: str | None, options: RunOptions) -> str:
    """The name of a result's files: all parts but None, and what of the options is not as by default; cut if long."""
    load = options.load
    chosen = (
        options.weights and Path(options.weights).name,
        load.lora and Path(load.lora).resolve().name,
        None if load.dtype == LoadOptions().dtype else load.dtype,
        load.text_dtype and f"text-{load.text_dtype}",
        load.quantize,
        load.variant,
        load.revision,
        options.captions and options.captions.stem,
        f"seed{options.seed}" if options.seed else None,
        None if options.limit is None else f"first{options.limit}",
    )
    return cut_stem("-".join(part for part in (*parts, *chosen) if part))


def cut_stem(stem: str) -> str:
    """The name, cut where it is long: a file's has room for 255 bytes, with an ending and what a temporary one adds."""
    named = stem.encode()
    cut = named[:CUT_STEM].decode(errors="ignore")
    return stem if len(named) <= LONGEST_STEM else f"{cut}-{sha256(named).hexdigest()[:8]}"


def write_analysis(
    table: pd.DataFrame,
    results: Path,
    stem: str,
    overwrite: bool,
    draw: Callable[[Path], None] | None = None,
    folder_name: str = ANALYSIS_FOLDER,
) -> list[Path]:
    """Write a CSV file and, where something draws it, a figure to a folder of ``results``; returns both paths.

    Raises:
        UserError: A larger result stands there and ``overwrite`` is not set.
    """
    folder = results / folder_name
    numbers, figure = (folder / f"{stem}.{ending}" for ending in ("csv", "png"))
    if not overwrite and numbers.exists():
        _refuse_larger(numbers, table)
    with explained_writes(folder):
        make_folder(folder)
        write_text(numbers, table.to_csv(index=False))
        if draw is None:
            return [numbers]
        draw(figure)
    return [numbers, figure]


def _refuse_larger(path: Path, table: pd.DataFrame) -> None:
    try:
        with path.open("rb") as file:
            stored = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})", "replace it with --overwrite") from error
    sizes = [(len(rows), _items(rows)) for rows in (stored, table)]
    (rows, images), (fewer_rows, fewer_images) = sizes
    if rows > fewer_rows or images > fewer_images:
        what = f"{path} holds {rows} rows of {images} images, more than these {fewer_rows} of {fewer_images}"
        raise UserError(what, "replace it with --overwrite")


def _items(rows: pd.DataFrame) -> int:
    """How many images, or images and pictures, a result is made of."""
    return int(rows["images" if "images" in rows else "items"].to_numpy().max())
