"""Commands that make or check data: captions, folders of datasets, masks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segscale.errors import UserError

from ...backbones.loading.options import LoadOptions
from ..runs.options import RunOptions
from . import options
from .command import Group, Option, command
from .parameters import POSITIVE, TEMPERATURE, Name
from .steps import print_written, quiet_libraries

if TYPE_CHECKING:
    from ..captions.captioner import Captioner

_examples = [
    "segscale caption --dataset pocket --limit 20",
    "segscale caption --endpoint http://localhost:8000/v1 --captioner MODEL --workers 4",
]
GREEDY = 0.0
"""The temperature where none is said."""
_captioner = "hub id or folder of an image-text-to-text model, or an endpoint's model"
_remote = partial(
    click.option, cls=Option, heading="An OpenAI-compatible endpoint (key: SEGSCALE_API_KEY or OPENAI_API_KEY)"
)


@dataclass(frozen=True)
class Writing:
    """Who writes captions, how, and into which file."""

    captioner: str | None
    words: int | None
    output: Path | None
    endpoint: str | None
    requests: int
    rate: int | None
    temperature: float | None

    def build_captioner(self, words: int, load: LoadOptions) -> Captioner:
        if self.endpoint is not None:
            from ..captions.endpoint import EndpointCaptioner, key_from
            from ..captions.retry import RateLimiter

            if self.captioner is None:
                raise UserError("the endpoint's model is not named", "name it with --captioner")
            if load != LoadOptions():
                problem = "--device, --dtype, --revision and --offline are for a model on this machine"
                raise UserError(problem, "leave them out beside --endpoint")
            limiter = RateLimiter(self.rate)
            return EndpointCaptioner(self.endpoint, self.captioner, key_from(), self.temperature, limiter)
        from ..captions.model import DEFAULT, ModelCaptioner

        if self.requests > 1 or self.rate is not None or self.temperature != GREEDY:
            raise UserError("--workers, --rate and --temperature are for an endpoint", "name it with --endpoint")
        name = self.captioner or DEFAULT
        return ModelCaptioner(name, words, load.device, load.dtype, load.revision, load.offline)


@command(resumes=True, examples=_examples)
@options.name("dataset", "pocket")
@click.option("--words", type=POSITIVE, help="limit of a caption", show_default="20, Pascal Context 35")
@click.option("-o", "--output", type=options.FILE, metavar="FILE", show_default="captions/DATASET-SPLIT.json")
@click.option("--captioner", help=_captioner, show_default="SmolVLM-Instruct")
@options.split
@options.data_root
@options.limit
@options.packed("run_options", RunOptions)
@options.model("A model on this machine")
@options.packed("load", LoadOptions)
@_remote("--endpoint", metavar="URL", help="base URL, such as http://localhost:8000/v1")
@_remote("--workers", "requests", type=POSITIVE, default=1, help="requests at the same time")
@_remote("--rate", type=POSITIVE, help="requests per minute, at most", show_default="no limit")
@_remote("--temperature", type=TEMPERATURE, default=GREEDY, help="none: the model's own")
@options.packed("writing", Writing)
@click.pass_obj
def caption(again: str, dataset_name: str, run_options: RunOptions, load: LoadOptions, writing: Writing) -> None:
    """Write a caption file for a dataset, by a model or an endpoint."""
    from segscale.registry import build

    from ..captions.captioner import word_limit
    from ..captions.write import write_captions

    quiet_libraries()
    dataset = build("dataset", dataset_name, **run_options.dataset_arguments)
    words = writing.words or word_limit(dataset.benchmark)
    captioner = writing.build_captioner(words, load)
    path = writing.output or Path("captions") / f"{dataset.name}-{dataset.split}.json"
    report = write_captions(dataset, captioner, path, words, run_options.limit, writing.requests)
    for image, reason in report.failed.items():
        print(f"{image:22} {reason}")
    print(f"{report.captions} of {report.images} images have a caption")
    if report.captions:
        print_written(path)
    if report.failed:
        problem = f"{len(report.failed)} of {report.images} images have no caption"
        raise UserError(problem, f"ask again for these: {again}")


@click.group(cls=Group, no_args_is_help=False, examples=["segscale data check pocket"])
def data() -> None:
    """Check the folder of a dataset, or prepare its masks."""


_folder = options.chained(
    click.argument("dataset_name", metavar="DATASET", type=Name("dataset")),
    options.data_root,
    click.option("--workers", type=POSITIVE, default=os.cpu_count, show_default="all cores", help="processes"),
)


@data.command(examples=["segscale data check pocket", "segscale data check voc --data-root /data"])
@_folder
@options.split
@click.option("--subset", is_flag=True, help="fewer images than the official split has are meant to be there")
def check(dataset_name: str, data_root: str | None, workers: int, split: str | None, subset: bool) -> None:
    """Read every image and mask of a split. All that is wrong is named."""
    from segscale.registry import build

    from ..data.check import check

    arguments = RunOptions(data_root=data_root, split=split).dataset_arguments
    report = check(build("dataset", dataset_name, **arguments), workers, subset)
    for finding in report.findings:
        print(f"{finding.kind:16} {finding.what}")
    if not report.good:
        raise UserError(report.summary, report.hint)
    print(report.summary)


@data.command(examples=["segscale data prepare pocket", "segscale data prepare cityscapes --data-root /data"])
@_folder
def prepare(dataset_name: str, data_root: str | None, workers: int) -> None:
    """Make masks from the official annotation. Originals stay as they are."""
    from ..data.prepare import prepare

    prepared = prepare(dataset_name, data_root, workers)
    for fault in prepared.faults:
        print(fault)
    print_written(*prepared.folders)
    if prepared.faults:
        raise UserError(prepared.summary, "replace what is named above and run it again")
    print(prepared.summary)
