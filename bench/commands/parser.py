"""The command line. Every user's mistake ends in one line on standard error and exit status 2."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import segscale
from segscale.errors import UserError

from . import analysis as analysis_commands
from . import data as data_commands
from . import run as commands

FAILURE = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise UserError(message, f"see: {self.prog} --help")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _temperature(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither none nor a number from 0 to 2")
    return value


def _timestep(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a timestep in 1..1000")
    return int(text)


def _add_loading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("loading weights")
    group.add_argument("--weights", help="hub id or local diffusers folder, instead of the config's")
    group.add_argument("--device", default="cpu", help="torch device, such as cuda or cuda:1 (default: cpu)")
    group.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    group.add_argument("--text-dtype", choices=("float32", "float16", "bfloat16"), help="default: as --dtype")
    group.add_argument("--revision", help="revision of the hub repository")
    group.add_argument("--variant", help="variant of the weight files, such as fp16")
    group.add_argument("--offline", action="store_true", help="use only what is in the local cache")
    group.add_argument("--offload", choices=("model", "sequential"), help="diffusers' offload to the CPU")
    group.add_argument("--device-map", help="diffusers' placement over devices, such as balanced")
    group.add_argument(
        "--quantize",
        choices=("bitsandbytes-4bit", "bitsandbytes-8bit", "quanto-int8"),
        help="of denoiser and text encoders",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of runs and tables")


def _add_images(parser: argparse.ArgumentParser, split: bool = True) -> None:
    if split:
        parser.add_argument("--split", help="split of the dataset, instead of the config's")
    parser.add_argument("--data-root", help="folder of the dataset")
    parser.add_argument("--captions", type=Path, help="caption file, see: segscale caption --help")
    parser.add_argument("--limit", type=_positive, help="only the first N images")
    parser.add_argument("--skip-bad", action="store_true", help="leave unusable images out, count and list them")
    parser.add_argument("--seed", type=_natural, default=0, help="of the noise (default: 0)")


def _add_run(parser: argparse.ArgumentParser, backbone: str | None, method: str | None) -> None:
    default = "all that are carried by the package" if backbone is None else backbone
    parser.add_argument("--backbone", type=_names, default=backbone and [backbone], help=f"default: {default}")
    parser.add_argument("--method", type=_names, default=method and [method], help=f"default: {method or 'all'}")
    parser.add_argument("--dataset", type=_names, default=["pocket"], help="default: pocket")
    parser.add_argument("--protocol", type=_names, default=["standard"], help="default: standard")
    _add_images(parser)
    _add_results(parser)
    _add_loading(parser)


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", type=_names, help="default: all that are carried by the package")
    parser.add_argument("--method", type=_names, help="default: all that the protocol can evaluate")
    parser.add_argument("--dataset", default="pocket", help="default: pocket")
    parser.add_argument("--protocol", default="standard", help="default: standard")
    _add_images(parser, split=False)
    _add_results(parser)
    _add_loading(parser)
    parser.set_defaults(split=None)


def _add_analysis(parser: argparse.ArgumentParser, timestep: str = "the backbone's recommended one") -> None:
    parser.add_argument("backbone")
    parser.add_argument("--dataset", default="pocket", help="default: pocket")
    parser.add_argument("--protocol", default="standard", help="whose prompts are used (default: standard)")
    parser.add_argument("--timestep", type=_timestep, help=f"t in 1..1000, instead of {timestep}")
    _add_images(parser)
    _add_results(parser)
    _add_loading(parser)


def _add_caption(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="pocket", help="default: pocket")
    parser.add_argument("--split", help="split of the dataset, instead of the config's")
    parser.add_argument("--data-root", help="folder of the dataset")
    parser.add_argument("--limit", type=_positive, help="only the first N images")
    parser.add_argument("--words", type=_positive, help="limit of a caption (default: 20, Pascal Context 35)")
    parser.add_argument("-o", "--output", type=Path, help="default: captions/DATASET-SPLIT.json")
    text = "hub id or folder of an image-text-to-text model (default: SmolVLM-Instruct), or an endpoint's model"
    parser.add_argument("--captioner", help=text)
    local = parser.add_argument_group("a model on this machine")
    local.add_argument("--device", default="cpu", help="torch device, such as cuda or cuda:1 (default: cpu)")
    local.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    local.add_argument("--revision", help="revision of the hub repository")
    local.add_argument("--offline", action="store_true", help="use only what is in the local cache")
    remote = parser.add_argument_group("an OpenAI-compatible endpoint", "key: SEGSCALE_API_KEY or OPENAI_API_KEY")
    remote.add_argument("--endpoint", metavar="URL", help="base URL, such as http://localhost:8000/v1")
    remote.add_argument("--workers", type=_positive, default=1, help="requests at the same time (default: 1)")
    remote.add_argument("--rate", type=_positive, help="requests per minute, at most (default: no limit)")
    remote.add_argument("--temperature", type=_temperature, default=0.0, help="default: 0; none: the model's own")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset")
    parser.add_argument("--data-root", help="folder of the dataset")
    parser.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, help="processes (default: all cores)")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="segscale", description=segscale.__doc__)
    parser.add_argument("--version", action="version", version=f"segscale {segscale.__version__}")
    names = parser.add_subparsers(required=True, metavar="COMMAND")

    bench = names.add_parser("bench", help="run backbones x methods x datasets, then write the tables")
    _add_run(bench, None, None)
    bench.add_argument("--with-untrained", action="store_true", help="add each backbone with random denoiser weights")
    bench.set_defaults(run=commands.bench)

    run = names.add_parser("run", help="run and print per-class IoU; no tables are written")
    _add_run(run, "pocket-sd15", "vanilla")
    run.add_argument("--untrained", action="store_true", help="random denoiser weights")
    run.set_defaults(run=commands.run)

    table = names.add_parser("table", help="print the scaling table of all stored runs; write CSV files and figure")
    _add_results(table)
    paper = Path("results/paper.csv")
    text = f"set published numbers beside the runs; FILE holds them (default: {paper})"
    table.add_argument("--paper", nargs="?", type=Path, const=paper, metavar="FILE", help=text)
    table.set_defaults(run=commands.table)

    leaderboard = names.add_parser("leaderboard", help="write leaderboard.md from all stored runs")
    _add_results(leaderboard)
    leaderboard.set_defaults(run=commands.leaderboard)

    calibrate = names.add_parser("calibrate", help="choose a protocol's threshold on the calibration split; store it")
    _add_calibration(calibrate)
    calibrate.set_defaults(run=analysis_commands.calibrate)

    predict = names.add_parser("predict", help="masks for one's own picture")
    predict.add_argument("image", type=Path)
    predict.add_argument("--classes", required=True, type=_names, help="comma-separated, such as 'dog, grass'")
    predict.add_argument("--caption", help="a caption that gives context; words that are no class are background")
    predict.add_argument("--backbone", default="pocket-sd15")
    predict.add_argument("--method", default="vanilla")
    predict.add_argument("--seed", type=_natural, default=0)
    predict.add_argument("-o", "--output", type=Path, default=Path("out"), help="folder (default: out)")
    _add_loading(predict)
    predict.set_defaults(run=commands.predict)

    caption = names.add_parser("caption", help="write a caption file for a dataset, by a model here or an endpoint")
    _add_caption(caption)
    caption.set_defaults(run=data_commands.caption)

    quirks = names.add_parser("quirks", help="what each quirk of the papers' published code does to the number")
    quirks.add_argument("--backbone", type=_names, help="default: all that are carried by the package")
    quirks.add_argument("--dataset", default="pocket", help="default: pocket")
    _add_images(quirks)
    _add_results(quirks)
    _add_loading(quirks)
    quirks.set_defaults(run=analysis_commands.quirks)

    sites = names.add_parser("sites", help="where a backbone's attention can be observed; needs no weights")
    sites.add_argument("backbone")
    sites.add_argument("--size", type=_positive, help="side of the image in pixels")
    sites.set_defaults(run=commands.sites)

    perf = names.add_parser("perf", help="cost of observing attention, against the plain forward; random weights")
    perf.add_argument("backbone")
    perf.add_argument("--method", type=_names, default=["vanilla"], help="default: vanilla")
    perf.add_argument("--size", type=_positive, help="side of the image in pixels")
    perf.add_argument("--repeats", type=_positive, default=3, help="of each forward, after one that does not count")
    _add_loading(perf)
    perf.set_defaults(run=commands.perf)

    data = names.add_parser("data", help="check the folder of a dataset, or prepare its masks")
    tasks = data.add_subparsers(required=True, metavar="TASK")
    check = tasks.add_parser("check", help="read every image and mask of a split and name all that is wrong")
    _add_data(check)
    check.add_argument("--split", help="split of the dataset, instead of the config's")
    subset = "the folder holds a part of the official split on purpose: its number of images is not compared"
    check.add_argument("--subset", action="store_true", help=subset)
    check.set_defaults(run=data_commands.data_check)
    prepare = tasks.add_parser("prepare", help="make masks from the official annotation; originals stay as they are")
    _add_data(prepare)
    prepare.set_defaults(run=data_commands.data_prepare)

    modalities = names.add_parser("modalities", help="share of joint attention per modality and block, with figure")
    _add_analysis(modalities)
    modalities.set_defaults(run=analysis_commands.analyse, analysis="modalities")

    values = names.add_parser("values", help="norms of image and text values per joint block, with figure")
    _add_analysis(values)
    values.set_defaults(run=analysis_commands.analyse, analysis="values")

    layers = names.add_parser("layers", help="mIoU of every block or head alone in one pass, with figure")
    _add_analysis(layers, timestep="the method's own noise level")
    seg4diff = ("seg4diff", "seg4diff-described")
    layers.add_argument("--method", choices=seg4diff, default=seg4diff[1], help=f"default: {seg4diff[1]}")
    layers.add_argument("--heads", action="store_true", help="every head of every block alone")
    layers.add_argument("--sites", type=_names, help="only these blocks, see: segscale sites BACKBONE")
    layers.add_argument("--with", type=_names, default=[], dest="compared", help="methods to compare, such as goca")
    layers.set_defaults(run=analysis_commands.layers)

    names.add_parser("list", help="backbones, methods, datasets and protocols").set_defaults(run=commands.list_names)
    names.add_parser("doctor", help="what is usable here, and how to get what is not").set_defaults(run=commands.doctor)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and turn a UserError or an interrupt into one line."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.WARNING, format="segscale: %(message)s")
    again = shlex.join(["segscale", *arguments])
    try:
        parsed = build_parser().parse_args(arguments, argparse.Namespace(again=again))
        parsed.run(parsed)
    except UserError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        resumes = arguments[:1] in (["run"], ["bench"], ["calibrate"], ["caption"], ["layers"], ["quirks"])
        stored = "what was computed is stored, resume with: " if resumes else "again: "
        sys.exit(_fail(f"interrupted; {stored}{again}"))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> int:
    print(f"segscale: error: {' '.join(message.split())}", file=sys.stderr)
    return FAILURE
