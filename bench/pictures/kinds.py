"""The kinds of files that a picture's masks are written as; the command line offers them before anything heavy."""

from __future__ import annotations

from typing import Literal

Kind = Literal["overlay", "labels", "heat", "cutouts", "coco"]
