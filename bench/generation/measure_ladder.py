"""Measures the rungs that have configs: ``python -m segscale.bench.generation.measure_ladder``.

SEGSCALE_CONFIGS names the folder ``configs`` beside their weights. What is stored already is not measured again.
The package's own rungs and twins are measured as well, where the results lack them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from segscale.catalogue import config_files, unlisted_files
from segscale.errors import UserError
from segscale.registry import build

from ...backbones.pocket.climb import MEASUREMENTS, measured
from ...backbones.pocket.ladder import RUNGS, TOP
from ..runs.loop import run_methods
from ..runs.options import RunOptions
from ..runs.plan import build_methods, build_task, plan_backbone
from .choices import CAPTIONS, Networks, SamplingChoices
from .power_record import find_power
from .scaling_files import read_scaling
from .settings import sampling_settings
from .strengths import PowerQuestion

log = logging.getLogger(__name__)

BATCH = 50


def rung_names(results: Path) -> Iterator[str]:
    """Rungs that were trained in ``results``, and the package's own that were not measured there."""
    known = unlisted_files("backbone") | config_files("backbone")
    done = measured(results)
    for name in (*TOP, *RUNGS):
        if name in known and (name not in done or known[name].resolve().is_relative_to(results.resolve())):
            yield name


def measure_rung(name: str, methods: list[str], pictures: RunOptions, images: RunOptions) -> None:
    """Measure power on pictures and mIoU on images of one rung, where that is not stored."""
    identity = plan_backbone(name, pictures).identity
    settings = sampling_settings(name, SamplingChoices(), pictures.seed)
    records = [stored.record for stored in find_power(pictures.results)]
    done = [(record.plan.backbone, record.plan.settings, record.plan.prompts, record.images) for record in records]
    if (identity, settings, f"{CAPTIONS}-val", pictures.limit) not in done:
        PowerQuestion(name, CAPTIONS, SamplingChoices(), Networks(), pictures).measured(SamplingChoices())
    task = build_task("pocket", build("protocol", "standard"), images)
    run_methods(name, build_methods(methods, name, task.protocol), task, images)


def _refuse_other_numbers(results: Path, asked: Mapping[str, int]) -> None:
    """Raises UserError where the rungs that were measured in ``results`` have other numbers of pictures or images."""
    if not results.joinpath(MEASUREMENTS).exists():
        return
    conditions = read_scaling(results, is_published=False).conditions
    if other := [name for name, count in asked.items() if not getattr(conditions, name).startswith(f"{count},")]:
        raise UserError(f"{results} holds rungs of other numbers of {other[0]}", "name another --results")


def main() -> None:
    """Measure all rungs that there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/pocket/ladder"))
    parser.add_argument("--pictures", type=int, default=200, help="of every rung")
    parser.add_argument("--images", type=int, default=200, help="that every rung segments")
    parser.add_argument("--method", default="vanilla,goca,goca-described")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        _refuse_other_numbers(arguments.results, {"pictures": arguments.pictures, "images": arguments.images})
    except UserError as error:
        parser.error(str(error))
    pictures = RunOptions(results=arguments.results, limit=arguments.pictures, batch=BATCH)
    images = RunOptions(results=arguments.results, limit=arguments.images)
    for name in rung_names(arguments.results):
        log.info("%s", name)
        measure_rung(name, arguments.method.split(","), pictures, images)


if __name__ == "__main__":
    main()
