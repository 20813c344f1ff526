"""What the commands do that make or check data. Heavy modules are imported where they are needed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segscale.errors import UserError

from .options import check_names, local_device, print_written, quiet_libraries

if TYPE_CHECKING:
    from ...datasets.dataset import Dataset
    from ..captions.captioner import Captioner


def caption(arguments: argparse.Namespace) -> None:
    check_names(dataset=[arguments.dataset])
    from ..captions.captioner import word_limit
    from ..captions.write import write_captions

    quiet_libraries()
    data = _dataset(arguments)
    words = arguments.words or word_limit(data.name)
    captioner = _captioner(arguments, words)
    path = arguments.output or Path("captions") / f"{data.name}-{data.split}.json"
    report = write_captions(data, captioner, path, words, arguments.limit, arguments.workers)
    for image, reason in report.failed.items():
        print(f"{image:22} {reason}")
    print(f"{report.captions} of {report.images} images have a caption")
    if report.captions:
        print_written(path)
    if report.failed:
        what = f"{len(report.failed)} of {report.images} images have no caption"
        raise UserError(what, f"ask again for these: {arguments.again}")


def _dataset(arguments: argparse.Namespace) -> Dataset:
    from segscale.registry import build

    chosen = {"data_root": arguments.data_root, "split": arguments.split}
    return build("dataset", arguments.dataset, **{key: value for key, value in chosen.items() if value is not None})


def _captioner(arguments: argparse.Namespace, words: int) -> Captioner:
    if arguments.endpoint is not None:
        from ..captions.endpoint import EndpointCaptioner, key_from
        from ..captions.retry import RateLimiter

        if arguments.captioner is None:
            raise UserError("the endpoint's model is not named", "name it with --captioner")
        limiter = RateLimiter(arguments.rate)
        return EndpointCaptioner(arguments.endpoint, arguments.captioner, key_from(), arguments.temperature, limiter)
    from ..captions.model import DEFAULT, ModelCaptioner

    if arguments.workers > 1 or arguments.rate is not None:
        raise UserError("--workers and --rate are for an endpoint", "name it with --endpoint")
    name, device = arguments.captioner or DEFAULT, local_device(arguments.device)
    return ModelCaptioner(name, words, device, arguments.dtype, arguments.revision, arguments.offline)


def data_check(arguments: argparse.Namespace) -> None:
    check_names(dataset=[arguments.dataset])
    from ..data.check import check

    report = check(_dataset(arguments), arguments.workers, arguments.subset)
    for finding in report.findings:
        print(f"{finding.kind:16} {finding.what}")
    if not report.good:
        raise UserError(report.summary, report.hint)
    print(report.summary)


def data_prepare(arguments: argparse.Namespace) -> None:
    check_names(dataset=[arguments.dataset])
    from ..data.prepare import prepare

    prepared = prepare(arguments.dataset, arguments.data_root, arguments.workers)
    for fault in prepared.faults:
        print(fault)
    for folder in prepared.folders:
        print_written(folder)
    if prepared.faults:
        raise UserError(prepared.summary, "replace what is named above and run it again")
    print(prepared.summary)
