"""The images that an analysis of a backbone's blocks looks at, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from tqdm import tqdm

from segscale.errors import UserError

from ...backbones.backbone import Backbone
from ...datasets.dataset import Sample
from ...methods.method import PromptRule
from ..runs.options import RunOptions
from ..tasks.prompts import PromptGroup
from ..tasks.task import Task


def prompted_images(
    backbone: Backbone, task: Task, options: RunOptions, rule: PromptRule | None = None
) -> Iterator[tuple[Sample, PromptGroup]]:
    """Images that show a class, each with its prompt; others are left out.

    Raises:
        UserError: At the end, where no image shows a class.
    """
    indices = range(len(task.dataset))[: options.limit]
    shown = 0
    for index in tqdm(indices, desc=f"{backbone.name} on {task.dataset.name}", unit="image"):
        sample = task.dataset[index]
        if task.present_classes(sample):
            shown += 1
            yield sample, task.present_prompts(rule or PromptRule(), sample).groups[0]
    if not shown:
        raise UserError(f"none of {len(indices)} images of {task.dataset.name} shows a class", "take more with --limit")


def with_facts(table: pd.DataFrame, facts: Mapping[str, object]) -> pd.DataFrame:
    """The table after columns of what it was measured on: one value of each, or one for every row."""
    return pd.concat([pd.DataFrame(dict(facts), index=table.index), table], axis=1)
