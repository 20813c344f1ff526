"""Tables in LaTeX, as papers set them: booktabs, columns grouped below their titles."""

from __future__ import annotations

import pandas as pd

SPECIAL = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "†": "\\dag{}",
    "‡": "\\ddag{}",
    "§": "\\S{}",
    "¶": "\\P{}",
}
"""What has a meaning in LaTeX, or no place in its oldest fonts."""
BOLD, END = "\0", "\1"
"""Around a text in bold type until it is escaped; no name holds them."""


def latex_bold(text: str) -> str:
    """The text as ``latex_table`` sets it in bold type."""
    return f"{BOLD}{text}{END}"


def latex_table(wide: pd.DataFrame, caption: str, label: str) -> str:
    """One ``table`` with two rows of titles.

    Args:
        wide: Texts; its columns have two levels, of which the first is empty or stands over its neighbours alike.
        caption: Of the table.
        label: By which text refers to it.
    """
    escaped = wide.map(_escaped)
    escaped.columns = pd.MultiIndex.from_tuples([tuple(map(_escaped, column)) for column in wide.columns])
    alignment = "".join("r" if task else "l" for task, _ in wide.columns)
    text = escaped.to_latex(
        index=False,
        escape=False,
        column_format=alignment,
        multicolumn_format="c",
        caption=_escaped(caption),
        label=label.replace(" ", "-"),
        position="t",
    )
    return text.replace("\\caption", "\\centering\n\\caption", 1)


def _escaped(text: str) -> str:
    escaped = text.translate(str.maketrans(SPECIAL))
    return escaped.replace(BOLD, "\\textbf{").replace(END, "}")
