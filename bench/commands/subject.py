"""What an analysis or a training looks at, as options and as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..runs.options import RunOptions
from . import options
from .parameters import TIMESTEP

if TYPE_CHECKING:
    from ..tasks.task import Task


@dataclass(frozen=True)
class Subject:
    """What an analysis or a training looks at."""

    backbone_name: str
    dataset_name: str
    protocol_name: str
    timestep: int | None = None

    def task(self, run_options: RunOptions) -> Task:
        """What is prompted and counted."""
        from segscale.registry import build

        from ..runs.plan import build_task

        return build_task(self.dataset_name, build("protocol", self.protocol_name), run_options)

    def stem(self, task: Task, *parts: str | None, run_options: RunOptions) -> str:
        """The name of the analysis' files."""
        from ..report.files import result_stem

        timestep = None if self.timestep is None else f"t{self.timestep}"
        names = (self.backbone_name, self.dataset_name, task.dataset.split, self.protocol_name)
        return result_stem(*names, timestep, *parts, options=run_options)


def subject(timestep: str | None, read: options.Decorator = options.run) -> options.Decorator:
    """The options of an analysis of blocks.

    Args:
        timestep: Says what its default is, None where the command has no such option.
        read: The options of images; those of runs for an analysis that stores runs.
    """
    chosen = [] if timestep is None else [_timestep(timestep)]
    return options.chained(
        options.backbone,
        options.name("dataset", "pocket"),
        options.name("protocol", "standard", help="whose prompts are used"),
        *chosen,
        options.packed("subject", Subject),
        options.overwrite,
        read,
    )


def _timestep(default: str) -> options.Decorator:
    return click.option("--timestep", type=TIMESTEP, help="t in 1..1000", show_default=default)
