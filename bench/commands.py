"""What each command does; the only place that prints. Heavy modules are imported where they are needed."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segscale.catalogue import KINDS, config_file, config_files, describe
from segscale.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from ..backbones.loading import LoadOptions
    from .captioners import Captioner
    from .plan import RunOptions
    from .store import RunStore


def list_names(arguments: argparse.Namespace) -> None:
    for kind in KINDS:
        print(f"{kind}s")
        for name, line in describe(kind).items():
            print(f"  {name:22} {line}")


def doctor(arguments: argparse.Namespace) -> None:
    from .doctor import findings

    _quiet_libraries()
    for kind, name, state in findings():
        print(f"{kind:8} {name:22} {state}")


def run(arguments: argparse.Namespace) -> None:
    options = replace(_run_options(arguments), untrained=arguments.untrained)
    stores = _run_cells(arguments, [options])
    if _reports():
        for store in stores:
            _print_classes(store, arguments.results)


def bench(arguments: argparse.Namespace) -> None:
    options = _run_options(arguments)
    variants = [options, replace(options, untrained=True)] if arguments.with_untrained else [options]
    _run_cells(arguments, variants)
    if _reports():
        _write_leaderboard(arguments.results, _write_tables(arguments.results))


def table(arguments: argparse.Namespace) -> None:
    rows = _write_tables(arguments.results)
    if arguments.paper is not None:
        from .published import beside_published, read_published

        print(f"\n{beside_published(rows, read_published(arguments.paper))}")


def leaderboard(arguments: argparse.Namespace) -> None:
    from .tables import evaluate_runs, long_table

    _write_leaderboard(arguments.results, long_table(evaluate_runs(arguments.results)))


def predict(arguments: argparse.Namespace) -> None:
    config_file("backbone", arguments.backbone)
    config_file("method", arguments.method)
    if not arguments.classes:
        raise UserError("the class list is empty", "name at least one, as in --classes 'dog, grass'")
    from PIL import ImageOps

    from ..datasets.files import read_image
    from .segmenter import load

    _quiet_libraries()
    image = ImageOps.exif_transpose(read_image(arguments.image))
    segmenter = load(arguments.backbone, arguments.method, arguments.weights, _load_options(arguments))
    result = segmenter(image, arguments.classes, arguments.caption, arguments.seed)
    for name, pixels in result.areas.items():
        print(f"{name:22} {100 * pixels / result.labels.size:5.1f} %")
    for path in result.save(arguments.output, arguments.image.stem):
        _print_written(path)


def caption(arguments: argparse.Namespace) -> None:
    config_file("dataset", arguments.dataset)
    from .captioning import word_limit, write_captions
    from .plan import RunOptions, build_dataset

    _quiet_libraries()
    data = build_dataset(arguments.dataset, RunOptions(split=arguments.split, data_root=arguments.data_root))
    words = arguments.words or word_limit(data.name)
    captioner = _captioner(arguments, words)
    path = arguments.output or Path("captions") / f"{data.name}-{data.split}.json"
    report = write_captions(data, captioner, path, words, arguments.limit, arguments.workers)
    for image, reason in report.failed.items():
        print(f"{image:22} {reason}")
    print(f"{report.captions} of {report.images} images have a caption")
    if report.captions:
        _print_written(path)
    if report.failed:
        what = f"{len(report.failed)} of {report.images} images have no caption"
        raise UserError(what, f"ask again for these: {arguments.again}")


def sites(arguments: argparse.Namespace) -> None:
    config_file("backbone", arguments.backbone)
    from tabulate import tabulate

    from ..backbones.loading import LoadOptions
    from .plan import build_backbone

    _quiet_libraries()
    backbone = build_backbone(arguments.backbone, LoadOptions(source=_source(arguments.backbone, "meta")))
    size = arguments.size or backbone.recommended.image_size
    backbone.check_size(size)
    rows = [
        (site.layer, site.name, site.kind, site.heads, f"{site.grid.height} x {site.grid.width}")
        for site in backbone.sites(size)
    ]
    print(tabulate(rows, headers=("layer", "site", "kind", "heads", "grid"), tablefmt="simple"))


def perf(arguments: argparse.Namespace) -> None:
    config_file("backbone", arguments.backbone)
    for name in arguments.method:
        config_file("method", name)
    from .perf import compare
    from .plan import build_backbone, build_method

    _quiet_libraries()
    source = _source(arguments.backbone, "random") if arguments.weights is None else "pretrained"
    load = replace(_load_options(arguments), source=source)
    backbone = build_backbone(arguments.backbone, load, arguments.weights)
    methods = [build_method(name, arguments.backbone, arguments.size) for name in arguments.method]
    result = compare(backbone, methods, arguments.repeats)
    kept = f"{result.text_maps} text and {result.pixel_maps} pixel maps"
    print(f"{arguments.backbone}, {methods[0].settings.image_size} px, {', '.join(arguments.method)}: {kept}")
    print(f"  whole image      {result.ratio:5.2f} x plain")
    print(f"  denoiser alone   {result.denoiser_ratio:5.2f} x plain")
    print(f"  extra memory     {result.extra_bytes / 2**30:5.2f} GiB")
    shares = (("prompt", result.text), ("image", result.image), ("plain", result.plain), ("observed", result.observed))
    for name, cost in shares:
        print(f"  {name:16} {cost.seconds:8.2f} s, peak {cost.peak_bytes / 2**30:.2f} GiB")


def _captioner(arguments: argparse.Namespace, words: int) -> Captioner:
    if arguments.endpoint is not None:
        from .caption_endpoint import EndpointCaptioner, Pace, key_from

        if arguments.captioner is None:
            raise UserError("the endpoint's model is not named", "name it with --captioner")
        pace = Pace(arguments.rate)
        return EndpointCaptioner(arguments.endpoint, arguments.captioner, key_from(), arguments.temperature, pace)
    from .caption_model import DEFAULT, ModelCaptioner

    if arguments.workers > 1 or arguments.rate is not None:
        raise UserError("--workers and --rate are for an endpoint", "name it with --endpoint")
    name, device = arguments.captioner or DEFAULT, _local_device(arguments.device)
    return ModelCaptioner(name, words, device, arguments.dtype, arguments.revision, arguments.offline)


def data_check(arguments: argparse.Namespace) -> None:
    config_file("dataset", arguments.dataset)
    from segscale.registry import build

    from .data_check import check

    chosen = {"data_root": arguments.data_root, "split": arguments.split}
    dataset = build("dataset", arguments.dataset, **{key: value for key, value in chosen.items() if value is not None})
    report = check(dataset, arguments.workers)
    for finding in report.findings:
        print(f"{finding.kind:16} {finding.what}")
    if not report.good:
        raise UserError(report.summary, "docs/datasets.md says where the files come from")
    print(report.summary)


def data_prepare(arguments: argparse.Namespace) -> None:
    config_file("dataset", arguments.dataset)
    from .data_prepare import prepare

    prepared = prepare(arguments.dataset, arguments.data_root, arguments.workers)
    for fault in prepared.faults:
        print(fault)
    for folder in prepared.folders:
        _print_written(folder)
    counts = f"{arguments.dataset}: {prepared.made} files made, {prepared.kept} were there"
    if prepared.faults:
        raise UserError(f"{counts}, {len(prepared.faults)} failed", "replace what is named above and run it again")
    print(counts if prepared.folders else f"{arguments.dataset} reads its official files; nothing is prepared")


def analyse(arguments: argparse.Namespace) -> None:
    """Prints the table of ``arguments.analysis``, writes CSV file and figure."""
    config_file("backbone", arguments.backbone)
    config_file("dataset", arguments.dataset)
    config_file("protocol", arguments.protocol)
    from ..backbones.loading import LoadOptions
    from ..backbones.modalities import require_joint
    from .analysis import ANALYSES, averages_on, printable
    from .figures import analysis_figure
    from .plan import build_backbone
    from .writing import explained_writes

    _quiet_libraries()
    # Before any weights are fetched.
    shape = build_backbone(arguments.backbone, LoadOptions(source=_source(arguments.backbone, "meta")))
    require_joint(shape, shape.recommended.image_size)
    analysis, names = ANALYSES[arguments.analysis], (arguments.backbone, arguments.dataset, arguments.protocol)
    table = averages_on(analysis, *names, _run_options(arguments), arguments.timestep)
    folder = arguments.results / "analysis"
    numbers, figure = (folder / f"{arguments.backbone}-{analysis.name}.{ending}" for ending in ("csv", "png"))
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(numbers, index=False)
        analysis_figure(table, analysis, figure)
    print(printable(table, analysis))
    for path in (numbers, figure):
        _print_written(path)


def quirks(arguments: argparse.Namespace) -> None:
    backbones = arguments.backbone or _carried()
    config_file("dataset", arguments.dataset)
    for name in backbones:
        config_file("backbone", name)
    from .quirks import effects, table
    from .writing import explained_writes

    _quiet_libraries()
    options = _run_options(arguments)
    rows = effects(backbones, arguments.dataset, replace(options, results=arguments.results / "analysis"))
    print(table(rows))
    numbers = arguments.results / "analysis" / "quirks.csv"
    with explained_writes(numbers.parent):
        rows.to_csv(numbers, index=False)
    _print_written(numbers)


def _carried() -> list[str]:
    """Backbones whose weights come with the package."""
    return [name for name in config_files("backbone") if name.startswith("pocket-")]


def layers(arguments: argparse.Namespace) -> None:
    """Prints the mIoU of every block or head alone, writes CSV file and figure."""
    config_file("backbone", arguments.backbone)
    for name in arguments.compared:
        config_file("method", name)
    config_file("dataset", arguments.dataset)
    config_file("protocol", arguments.protocol)
    from ..backbones.loading import LoadOptions
    from .figures import heads_figure, layers_figure
    from .layers import FOLDER, LayerAnalysis, best_text, evaluate_parts, parts_of, printable
    from .plan import build_backbone
    from .tables import notes
    from .writing import explained_writes

    _quiet_libraries()
    # Before any weights are fetched.
    shape = build_backbone(arguments.backbone, LoadOptions(source=_source(arguments.backbone, "meta")))
    sites = shape.sites(shape.recommended.image_size)
    parts = parts_of(arguments.backbone, sites, arguments.sites, arguments.heads)
    analysis = LayerAnalysis(arguments.method, parts, tuple(arguments.compared), arguments.timestep)
    names = (arguments.backbone, arguments.dataset, arguments.protocol)
    table = evaluate_parts(analysis, *names, _run_options(arguments))
    if not _reports():
        return
    kind, draw = ("heads", heads_figure) if arguments.heads else ("layers", layers_figure)
    folder = arguments.results / FOLDER
    numbers, figure = (folder / f"{arguments.backbone}-{kind}.{ending}" for ending in ("csv", "png"))
    with explained_writes(folder):
        table.to_csv(numbers, index=False)
        draw(table, figure)
    print(f"{printable(table)}\n{best_text(table)}")
    for note in notes(table):
        print(f"\n{note}")
    for path in (numbers, figure):
        _print_written(path)


def _run_cells(arguments: argparse.Namespace, variants: list[RunOptions]) -> list[RunStore]:
    """All cells of the grid; methods of one backbone, dataset and protocol share their forwards."""
    backbones = arguments.backbone or _carried()
    grid = (backbones, arguments.method or [], arguments.dataset, arguments.protocol)
    for kind, names in zip(KINDS, grid, strict=True):
        for name in names:
            config_file(kind, name)
    from .plan import build_methods
    from .run import run_methods

    _quiet_libraries()
    cells = [
        (backbone, build_methods(arguments.method, backbone, protocol), dataset, protocol, options)
        for backbone, dataset, protocol in product(backbones, arguments.dataset, arguments.protocol)
        for options in variants
    ]
    return [store for cell in cells for store in run_methods(*cell)]


def _reports() -> bool:
    """Whether this process speaks for a launcher's others: tables are made from what all of them stored."""
    from .run import rank_and_world

    return rank_and_world()[0] == 0


def _write_tables(results: Path) -> pd.DataFrame:
    """Prints methods x backbones, writes the scaling table, CSV files and figure; returns the long table."""
    from .figures import scaling_figure
    from .matrix import method_matrix
    from .tables import class_table, evaluate_runs, long_table, notes, scaling_table
    from .writing import explained_writes

    evaluated = evaluate_runs(results)
    rows = long_table(evaluated)
    print(method_matrix(rows))
    for note in notes(rows):
        print(f"\n{note}")
    print()
    with explained_writes(results):
        long = results / "scaling.md"
        long.write_text("\n\n".join([scaling_table(rows), *notes(rows)]) + "\n")
        _print_written(long)
        for name, frame in (("scaling.csv", rows), ("classes.csv", class_table(evaluated))):
            frame.to_csv(results / name, index=False)
            _print_written(results / name)
        figure = results / "figures" / "scaling.png"
        scaling_figure(rows, figure)
        _print_written(figure)
    return rows


def _write_leaderboard(results: Path, rows: pd.DataFrame) -> None:
    from .tables import leaderboard
    from .writing import explained_writes

    path = results / "leaderboard.md"
    with explained_writes(results):
        path.write_text(leaderboard(rows))
    _print_written(path)


def _print_classes(store: RunStore, results: Path) -> None:
    import numpy as np

    from .tables import backbone_label, evaluate_store

    one = evaluate_store(store, results)
    plan, result = one.plan, one.score
    print(f"\n{backbone_label(plan.backbone)} x {plan.method['name']} on {plan.dataset['name']} ({one.protocol.name})")
    for name, iou in zip(one.run["classes"], result.class_iou, strict=True):
        print(f"  {name:22} {'-' if np.isnan(iou) else f'{100 * iou:.1f}'}")
    interval = f"[{100 * result.low:.1f}, {100 * result.high:.1f}]"
    print(f"  mIoU {100 * result.miou:.1f} {interval}, aAcc {100 * result.accuracy:.1f}, {len(one.frame)} images")
    if skipped := store.skipped():
        print(f"  left out {len(skipped)} bad images")
        for image, why in sorted(skipped.items()):
            print(f"    {image}: {why}")
    _print_written(store.folder)


def _print_written(path: Path) -> None:
    print(f"wrote {path}")


def _load_options(arguments: argparse.Namespace) -> LoadOptions:
    from ..backbones.loading import LoadOptions

    return LoadOptions(
        device=_local_device(arguments.device),
        dtype=arguments.dtype,
        text_dtype=arguments.text_dtype,
        revision=arguments.revision,
        variant=arguments.variant,
        offline=arguments.offline,
        offload=arguments.offload,
        device_map=arguments.device_map,
        quantize=arguments.quantize,
    )


def _local_device(device: str) -> str:
    """``cuda`` is the launcher's GPU for this process, where there is a launcher."""
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def _source(backbone: str, without_weights: Literal["random", "meta"]) -> Literal["pretrained", "random", "meta"]:
    """No weights are needed where the backbone's config states its architecture."""
    from segscale.registry import load_config

    return without_weights if "architecture" in load_config("backbone", backbone) else "pretrained"


def _run_options(arguments: argparse.Namespace) -> RunOptions:
    from .plan import RunOptions

    return RunOptions(
        weights=arguments.weights,
        split=arguments.split,
        data_root=arguments.data_root,
        captions=arguments.captions,
        limit=arguments.limit,
        skip_bad=arguments.skip_bad,
        seed=arguments.seed,
        results=arguments.results,
        load=_load_options(arguments),
    )


def _quiet_libraries() -> None:
    """Keep the libraries' loading messages out of the way of ours."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
