"""How background competes with classes, and what an image's classes are worth where they do not take part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackgroundRule = Literal["offset", "fixed", "max", "exact", "average", "none"]
AbsentRule = Literal["excluded", "zero"]
UndefinedRule = Literal["lowest", "wins"]

NO_CLASS = 255
"""In a map of winning classes: nothing competed for the pixel."""


@dataclass(frozen=True)
class Decision:
    """An argmax per pixel over channels: background first, then classes by ascending id.

    Ties go to the first channel. The rules are those of GoCA's evaluation code (arXiv 2603.06178).
    """

    class_count: int
    """Number of ids, background's included."""
    background_id: int | None
    """None with the rule ``none``."""
    rule: BackgroundRule
    """Background's score from its map ``b`` and the threshold ``t``: ``offset`` t + b, ``fixed`` t, ``max``
    max(b, t), ``exact`` b, ``average`` (t + b) / 2; with ``none`` only classes compete."""
    thresholds: tuple[float, ...]
    """Ascending; a single one for ``exact`` and ``none``, which do not use it."""
    absent: AbsentRule
    """Classes without a map are ``excluded``, or compete with score ``zero`` (published GoCA and Seg4Diff)."""
    undefined: UndefinedRule = "wins"
    """A score that is not finite, as of a class whose word was cut from the prompt, is the ``lowest`` and wins no
    pixel; or NaN beats every number and the first one ``wins`` (published GoCA and Seg4Diff)."""

    def __post_init__(self) -> None:
        if (self.background_id is None) != (self.rule == "none"):
            raise ValueError(f"background {self.background_id} does not go with the rule {self.rule!r}")
        check_thresholds(self.rule, self.thresholds)


def check_thresholds(rule: BackgroundRule, thresholds: tuple[float, ...]) -> None:
    """Raise ValueError unless thresholds ascend, and are one for a rule that does not use them."""
    if not thresholds or list(thresholds) != sorted(set(thresholds)):
        raise ValueError(f"thresholds {thresholds} do not ascend")
    if rule in ("exact", "none") and len(thresholds) > 1:
        raise ValueError(f"the rule {rule!r} does not use a threshold, so there is one, not {len(thresholds)}")
