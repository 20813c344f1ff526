"""Commands that measure what observing attention costs, and where the time of a run goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from segscale.errors import UserError

from ...backbones.loading.options import LoadOptions
from ..costs.pace import Pace
from . import options
from .command import command
from .parameters import POSITIVE, Name
from .steps import quiet_libraries, refuse_given

if TYPE_CHECKING:
    from ...backbones.backbone import Backbone
    from ...methods.method import Method
    from ..costs.breakdown import Breakdown

PIPELINE_WORKERS = 2
_OF_PIPELINE = {"pipeline", "batch", "seconds", "images"}
_examples = [
    "segscale perf pocket-sd15 --method vanilla,goca --breakdown",
    "segscale perf --pipeline --images 100",
]


@dataclass(frozen=True)
class Measured:
    """What is measured, and how it is loaded."""

    backbone_name: str | None
    method_names: tuple[str, ...]
    size: int | None
    weights: str | None
    load: LoadOptions


@command(examples=_examples)
@click.argument("backbone_name", metavar="[BACKBONE]", type=Name("backbone"), required=False)
@options.names("method", "vanilla")
@options.size
@click.option("--repeats", type=POSITIVE, default=3, help="of every measurement, after one that does not count")
@click.option("--breakdown", is_flag=True, help="show every step of an image instead")
@click.option("--batch", type=POSITIVE, default=1, help="images of one forward, with --breakdown or --pipeline")
@click.option("--pipeline", is_flag=True, help="measure whole runs of a stand-in for the model instead")
@click.option(
    "--seconds", type=click.FloatRange(0.001), default=0.04, help="of the stand-in per image, with --pipeline"
)
@click.option("--images", type=POSITIVE, default=150, help="of every run, with --pipeline")
@options.packed("pace", Pace)
@options.loading
@options.packed("measured", Measured)
def perf(measured: Measured, repeats: int, breakdown: bool, pipeline: bool, pace: Pace) -> None:
    """Measure the cost of observing attention. It is set against the plain forward, with random weights."""
    if pipeline:
        forwards = {name for each in click.get_current_context().command.params if (name := each.name)} - _OF_PIPELINE
        refuse_given(forwards, "a model, of which --pipeline runs a stand-in", "leave it out")
        _print_pipeline(pace)
        return
    refuse_given(("seconds", "images"), "--pipeline", "add --pipeline, or leave it out")
    if measured.backbone_name is None:
        raise UserError("missing argument 'BACKBONE'", "see: segscale perf --help")
    if pace.batch > 1 and not breakdown:
        raise UserError("--batch measures nothing by itself", "add --breakdown or --pipeline")
    backbone, methods = _built(measured.backbone_name, measured)
    what = f"{backbone.name}, {methods[0].settings.image_size} px, {', '.join(measured.method_names)}"
    if breakdown:
        from ..costs.breakdown import break_down

        _print_breakdown(f"{what}, batch {pace.batch}", break_down(backbone, methods, pace.batch, repeats))
        return
    _print_cost(what, backbone, methods, repeats)


def _built(backbone_name: str, measured: Measured) -> tuple[Backbone, list[Method]]:
    from ...backbones.build import build_backbone, weights_source
    from ...methods.build import build_method

    quiet_libraries()
    source = weights_source(backbone_name, "random") if measured.weights is None else "pretrained"
    backbone = build_backbone(backbone_name, replace(measured.load, source=source), measured.weights)
    chosen = {} if measured.size is None else {"image_size": measured.size}
    return backbone, [build_method(name, backbone_name, **chosen) for name in measured.method_names]


def _print_cost(what: str, backbone: Backbone, methods: Sequence[Method], repeats: int) -> None:
    from ..costs.forward import compare

    result = compare(backbone, methods, repeats)
    print(f"{what}: {result.text_maps} text and {result.pixel_maps} pixel maps")
    print("  attention        " + ", ".join(f"{count} modules {way}" for way, count in sorted(result.ways.items())))
    print(f"  whole image      {result.ratio:5.2f} x plain")
    print(f"  denoiser alone   {result.denoiser_ratio:5.2f} x plain")
    print(f"  extra memory     {result.extra_bytes / 2**30:5.2f} GiB")
    shares = (("prompt", result.text), ("image", result.image), ("plain", result.plain), ("observed", result.observed))
    for name, cost in shares:
        print(f"  {name:16} {cost.seconds:8.2f} s, peak {cost.peak_bytes / 2**30:.2f} GiB")


def _print_breakdown(what: str, result: Breakdown) -> None:
    from ..costs.breakdown import BESIDE

    total = sum(result.steps.values())
    print(f"{what}: {1000 * total:.1f} ms per image")
    for name, seconds in result.steps.items():
        print(f"  {name:11} {1000 * seconds:8.1f} ms {seconds / total:6.1%}")
    print(
        f"  without --workers the device is busy {result.busy_share:.0%} of the time and waits for: {', '.join(BESIDE)}"
    )


def _print_pipeline(pace: Pace) -> None:
    from ..costs.pipeline import pipeline_rates

    print(f"a stand-in of {1000 * pace.seconds:.0f} ms per image, {pace.images} images a run, batch {pace.batch}")
    for rate in pipeline_rates(pace, PIPELINE_WORKERS):
        load, workers = rate.load, f"{rate.workers or 'no'} workers"
        about = f"{load.name} ({load.width}x{load.height}, {load.classes} classes)"
        shares = f"{rate.share:.0%} of the device's rate, {rate.steady / rate.device:.0%} without start and end"
        print(f"  {about:30} {workers:10} {rate.run:5.1f} images per second, {shares}")
