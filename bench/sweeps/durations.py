"""Durations as a reader plans with them."""

from __future__ import annotations


def duration_text(seconds: float | None) -> str:
    """In seconds, minutes or hours; a question mark where it is not known."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
