"""Options that commands share, as decorators. Those of one record reach the command as that record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, reduce, wraps
from typing import Any, get_args

import click

from segscale.catalogue import Kind, packaged_backbones, training_free_backbones

from ...backbones.loading.options import Dtype, LoadOptions, Offload, Quantize
from ..report.selection import RunSelection
from ..runs.devices import local_device
from ..runs.options import RunOptions
from .command import Option
from .parameters import AMOUNT, NATURAL, POSITIVE, FilePath, Name, Names, Place

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
FILE = FilePath()


def chained(*decorators: Decorator) -> Decorator:
    """All decorators as one, the last innermost; help shows options in this order."""
    return lambda command: reduce(lambda inner, decorate: decorate(inner), reversed(decorators), command)


def packed(parameter: str, record: type[Any]) -> Decorator:
    """The command gets the values that are fields of the record as one argument called ``parameter``."""
    names = {field.name for field in fields(record)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            own = {name: values.pop(name) for name in names & values.keys()}
            command(**{parameter: record(**own)}, **values)

        return run

    return decorate


def name(kind: Kind, default: str, help: str | None = None) -> Decorator:
    """The option of one configured name."""
    return click.option(f"--{kind}", f"{kind}_name", type=Name(kind), default=default, help=help)


def names(kind: Kind, default: str | Callable[[], list[str]] | None, shown: str | bool = True) -> Decorator:
    """The option of several configured names."""
    type = Names(kind, Name(kind))
    return click.option(f"--{kind}", f"{kind}_names", type=type, default=default, show_default=shown)


backbone = click.argument("backbone_name", metavar="BACKBONE", type=Name("backbone"))
backbones = names("backbone", packaged_backbones, "all that are carried by the package")
training_free = names("backbone", training_free_backbones, "all of the package that were not taught with masks")
size = click.option("--size", type=POSITIVE, help="side of the image in pixels")


@dataclass(frozen=True)
class Grid:
    """Names whose combinations are run."""

    backbone_names: tuple[str, ...]
    method_names: tuple[str, ...] | None
    """None: all that suit the protocol."""
    dataset_names: tuple[str, ...]
    protocol_names: tuple[str, ...]


def grid(backbones: Decorator, methods: Decorator) -> Decorator:
    """The options whose combinations are run, as a ``Grid``."""
    return chained(backbones, methods, names("dataset", "pocket"), names("protocol", "standard"), packed("grid", Grid))


def _shown(kind: Kind) -> Decorator:
    """Names of stored runs, whose configs need not be here."""
    return click.option(f"--{kind}", f"{kind}_names", type=Names(kind), help=f"only runs of these {kind}s")


selection = chained(*map(_shown, ("dataset", "protocol", "backbone", "method")), packed("selection", RunSelection))
overwrite = click.option("--overwrite", is_flag=True, help="replace a stored result of more images, too")
methods = names("method", None, "all that suit the protocol")
_image = partial(click.option, cls=Option, heading="Images")
split = _image("--split", help="split of the dataset, instead of the config's")
data_root = _image("--data-root", metavar="FOLDER", help="folder of the dataset")
limit = _image("--limit", type=POSITIVE, help="only the first N images")
skip_bad = _image("--skip-bad", is_flag=True, help="leave unusable images out, count and list them")
results = click.option(
    "--results", type=Place(), metavar="FOLDER", default="results", help="folder or URL of runs and tables"
)


def _local_device(context: click.Context, parameter: click.Parameter, device: str) -> str:
    return local_device(device)


def model(heading: str) -> Decorator:
    """What loading any model asks."""
    option = partial(click.option, cls=Option, heading=heading)
    return chained(
        option("--device", default="cpu", callback=_local_device, help="torch device, such as cuda or cuda:1"),
        option("--dtype", type=click.Choice(get_args(Dtype)), default="float32"),
        option("--revision", help="revision of the hub repository"),
        option("--offline", is_flag=True, help="use only what is in the local cache"),
    )


_loading = partial(click.option, cls=Option, heading="Loading weights")
loading = chained(
    _loading("--weights", help="hub id or local diffusers folder, instead of the config's"),
    model("Loading weights"),
    _loading("--text-dtype", type=click.Choice(get_args(Dtype)), show_default="as --dtype"),
    _loading("--variant", help="variant of the weight files, such as fp16"),
    _loading("--offload", type=click.Choice(get_args(Offload)), help="diffusers' offload to the CPU"),
    _loading("--device-map", help="diffusers' placement over devices, such as balanced"),
    _loading("--lora", metavar="FOLDER", help="a LoRA to merge into the denoiser, see: segscale align --help"),
    _loading("--quantize", type=click.Choice(get_args(Quantize)), help="of denoiser and text encoders"),
    packed("load", LoadOptions),
)
_captions = _image("--captions", type=FILE, metavar="FILE", help="caption file, see: segscale caption --help")
_seed = _image("--seed", type=NATURAL, default=0, help="of the noise")
training = chained(
    _image("--split", default="train", help="split of the dataset"),
    data_root,
    _captions,
    limit,
    _seed,
    loading,
    packed("run_options", RunOptions),
)
calibration = chained(
    data_root,
    _captions,
    limit,
    skip_bad,
    _seed,
    results,
    loading,
    packed("run_options", RunOptions),
)
_batch = partial(click.option, "--batch", type=POSITIVE, show_default="1 on a CPU, what fits on a GPU")
batch = _batch(help="images that share a forward")
picture_batch = _batch(help="pictures that share a forward")
text_cache = click.option("--text-cache", type=FILE, metavar="FOLDER", help="keep encoded prompts there, for all runs")
pipeline = chained(
    batch,
    click.option(
        "--workers",
        type=NATURAL,
        show_default="0 on a CPU, up to 4 beside a GPU",
        help="threads that read images ahead, and as many that count behind",
    ),
    text_cache,
)
strict = click.option("--strict", is_flag=True, help="stop at the first score that is not finite, instead of counting")
save_masks = _image(
    "--save-masks",
    type=AMOUNT,
    metavar="[N]",
    is_flag=False,
    flag_value="all",
    default=0,
    show_default=False,
    help="keep predicted label maps of the first N images, or of all",
)
run = chained(split, strict, save_masks, calibration)
# What commands read that look at images, or draw captions, apart from runs.
images = chained(split, data_root, _captions, limit, _seed, results, loading, packed("run_options", RunOptions))
