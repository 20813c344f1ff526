"""Aligns a backbone with masks, step by step, resuming what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import segscale

from ...backbones.attention.sites import Site, text_site
from ...methods.build import method_defaults
from ..runs.options import RunOptions
from ..runs.plan import plan_backbone
from ..tasks.identity import plain_data
from ..tasks.task import Task, dataset_identity
from .alignment import Alignment, StepLosses
from .batches import BatchSource
from .checkpoint import Checkpoint
from .settings import AlignmentSettings

SAVE_SECONDS = 20.0


def expert_site(backbone_name: str, sites: Sequence[Site], name: str | None) -> Site:
    """The block whose scores are aligned, by default the backbone's first grounding site.

    Raises:
        UserError: For a block that does not read text.
    """
    name = name or method_defaults(backbone_name).grounding_sites[0]
    return text_site(sites, name, backbone_name)


def align(
    backbone_name: str,
    task: Task,
    settings: AlignmentSettings,
    folder: Path,
    options: RunOptions,
    site_name: str | None = None,
) -> pd.DataFrame:
    """Train the LoRA in ``folder``, or go on with it.

    Args:
        backbone_name: Its method defaults give the image's size.
        task: Whose images, prompts and masks are learnt from; of ``options.limit`` images where that is set.
        settings: How.
        folder: Gets the LoRA and the state.
        options: Weights and how to load them.
        site_name: As of ``expert_site``.

    Returns:
        One row per step: step, denoising, focal, dice.
    """
    planned = plan_backbone(backbone_name, options)
    backbone = planned.load()
    image_size = method_defaults(backbone_name).image_size
    sites = backbone.sites(image_size)
    site = expert_site(backbone_name, sites, site_name)
    images = len(range(len(task.dataset))[: options.limit])
    identity = plain_data(
        asdict(settings)
        | {
            "backbone": asdict(planned.identity),
            "dataset": asdict(dataset_identity(task.dataset)),
            "protocol": task.protocol.name,
            "site": site.name,
            "image_size": image_size,
            "first_images": images,
            "version": segscale.__version__,
        }
    )
    alignment = Alignment(backbone, site, sites, settings)
    checkpoint = Checkpoint(folder, identity)
    losses = checkpoint.resume(alignment)
    source = BatchSource(backbone, task, image_size, site.grid, settings, images)
    for due in _steps(backbone_name, alignment, source, losses):
        if due:
            checkpoint.save(alignment, losses)
    rows = [{"step": number, **asdict(each)} for number, each in enumerate(losses)]
    return pd.DataFrame(rows, columns=["step", "denoising", "focal", "dice"])


def _steps(backbone_name: str, alignment: Alignment, source: BatchSource, losses: list[StepLosses]) -> Iterator[bool]:
    """Take all steps that are left, adding to ``losses``; tells after each whether it is time to save.

    An interrupt costs the steps since; they come out the same.
    """
    steps, saved = alignment.settings.steps, time.monotonic()
    with tqdm(total=steps, initial=len(losses), desc=f"aligning {backbone_name}", unit="step") as progress:
        while len(losses) < steps:
            number = len(losses)
            last = alignment.step(number, source.draw(number))
            losses.append(last)
            progress.set_postfix_str(f"{last.denoising:.3f} + {last.focal:.3f} + {last.dice:.3f}", refresh=False)
            progress.update()
            due = time.monotonic() - saved > SAVE_SECONDS or len(losses) == steps
            saved = time.monotonic() if due else saved
            yield due
