"""Commands that calibrate and analyse methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import click

from segscale.catalogue import training_free_backbones

from ..runs.launcher import is_rank_zero
from ..runs.options import RunOptions
from . import options
from .command import Command, command
from .parameters import Name, Names
from .steps import print_written, quiet_libraries, refuse_ranks
from .subject import Subject, subject

SEG4DIFF = ("seg4diff", "seg4diff-described")


@command(resumes=True, examples=["segscale calibrate --backbone pocket-sd15 --method vanilla --limit 20"])
@options.training_free
@options.methods
@options.name("dataset", "pocket")
@options.name("protocol", "standard")
@options.overwrite
@options.calibration
def calibrate(
    backbone_names: tuple[str, ...],
    method_names: tuple[str, ...] | None,
    dataset_name: str,
    protocol_name: str,
    overwrite: bool,
    run_options: RunOptions,
) -> None:
    """Choose a threshold on the calibration split and store it."""
    from segscale.registry import build

    from ..analysis.calibration import calibrate, calibration_task, store_thresholds

    quiet_libraries()
    task = calibration_task(dataset_name, build("protocol", protocol_name), run_options)
    stores = calibrate(backbone_names, method_names, task, run_options)
    if is_rank_zero():
        path, thresholds = store_thresholds(stores, task, run_options, overwrite)
        for method_name, threshold in thresholds.items():
            print(f"{method_name:22} {threshold:g}")
        print_written(path)


@command(resumes=True, examples=["segscale quirks --backbone pocket-sd15 --limit 20"])
@options.training_free
@options.name("dataset", "pocket")
@options.overwrite
@options.run
def quirks(backbone_names: tuple[str, ...], dataset_name: str, overwrite: bool, run_options: RunOptions) -> None:
    """Tell what each quirk of the published code does to the number."""
    from ..analysis.quirks import effects, effects_table
    from ..report.files import ANALYSIS_FOLDER, result_stem, write_analysis
    from ..report.tables import interval_notes

    refuse_ranks("quirks")
    quiet_libraries()
    rows = effects(backbone_names, dataset_name, replace(run_options, results=run_options.results / ANALYSIS_FOLDER))
    print(effects_table(rows))
    for note in interval_notes(rows):
        print(f"\n{note}")
    chosen = () if {*backbone_names} == {*training_free_backbones()} else backbone_names
    stem = result_stem(*chosen, dataset_name, run_options.split, "quirks", options=run_options)
    print_written(*write_analysis(rows, run_options.results, stem, overwrite))


@dataclass(frozen=True)
class LayerChoice:
    """What is read of each block, and what it is compared with."""

    method_name: str
    heads: bool
    site_names: tuple[str, ...] | None
    compared: tuple[str, ...] | None


@command(
    resumes=True, examples=["segscale layers pocket-sd3 --limit 20", "segscale layers pocket-sd3 --heads --limit 20"]
)
@click.option("--method", "method_name", type=click.Choice(SEG4DIFF), default=SEG4DIFF[1])
@click.option("--heads", is_flag=True, help="every head of every block alone")
@click.option("--sites", "site_names", type=Names("site"), help="only these blocks, see: segscale sites BACKBONE")
@click.option("--with", "compared", type=Names("method", Name("method")), help="methods to compare, such as goca")
@options.packed("choice", LayerChoice)
@subject(timestep="the method's own noise level")
def layers(subject: Subject, run_options: RunOptions, overwrite: bool, choice: LayerChoice) -> None:
    """Tell the mIoU of every block or head alone. One pass gives all, and a figure shows them."""
    from ...backbones.build import build_shape_only
    from ...methods.build import method_defaults
    from ..analysis.layers import LayerAnalysis, best_text, evaluate_parts, parts_of, printable
    from ..report.figures.analyses import heads_figure, layers_figure
    from ..report.files import write_analysis
    from ..report.tables import notes

    quiet_libraries()
    sites = build_shape_only(subject.backbone_name).sites(method_defaults(subject.backbone_name).image_size)
    parts = parts_of(subject.backbone_name, sites, choice.site_names, choice.heads)
    analysis = LayerAnalysis(choice.method_name, parts, choice.compared or (), subject.timestep)
    task = subject.task(run_options)
    table = evaluate_parts(analysis, subject.backbone_name, task, run_options)
    if is_rank_zero():
        kind, draw = ("heads", heads_figure) if choice.heads else ("layers", layers_figure)
        print("\n\n".join([f"{printable(table)}\n{best_text(table)}", *notes(table)]))
        method = None if choice.method_name == SEG4DIFF[1] else choice.method_name
        chosen = [*(choice.site_names or ()), *(["with", *choice.compared] if choice.compared else [])]
        stem = subject.stem(task, method, kind, *chosen, run_options=run_options)
        print_written(*write_analysis(table, run_options.results, stem, overwrite, partial(draw, table)))


def _averaging(name: str, summary: str) -> Command:
    """A command that averages one analysis of every joint block over images."""

    @command(name, help=summary, examples=[f"segscale {name} pocket-sd3 --limit 20"])
    @subject(timestep="the backbone's recommended one", read=options.images)
    def average(subject: Subject, run_options: RunOptions, overwrite: bool) -> None:
        from ...backbones.attention.modalities import require_joint
        from ...backbones.build import build_shape_only
        from ...methods.build import method_defaults
        from ..analysis.modalities import ANALYSES, averages_on, printable
        from ..report.figures.analyses import analysis_figure
        from ..report.files import write_analysis

        refuse_ranks(name)
        quiet_libraries()
        analysis, backbone_name = ANALYSES[name], subject.backbone_name
        require_joint(build_shape_only(backbone_name), method_defaults(backbone_name).image_size)
        task = subject.task(run_options)
        table = averages_on(analysis, backbone_name, task, run_options, subject.timestep)
        print(printable(table, analysis))
        draw = partial(analysis_figure, table, analysis)
        stem = subject.stem(task, name, run_options=run_options)
        print_written(*write_analysis(table, run_options.results, stem, overwrite, draw))

    return average


modalities = _averaging("modalities", "Measure joint attention per modality and block, with figure.")
values = _averaging("values", "Measure image and text values per joint block, with figure.")
