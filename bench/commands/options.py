"""What the commands make of their options, and how they report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segscale.catalogue import KINDS, config_file, config_files

if TYPE_CHECKING:
    from ...backbones.backbone import Backbone
    from ...backbones.loading.pretrained import LoadOptions
    from ..runs.plan import RunOptions


def check_names(**names: Iterable[str]) -> None:
    """By kind; raises UserError for the first that is not configured. Before anything heavy is imported."""
    for kind in KINDS:
        for name in names.get(kind, ()):
            config_file(kind, name)


def without_weights(backbone: str) -> Backbone:
    """The backbone as its config states it, to ask about its sites before any weights are fetched."""
    from ...backbones.build import build_shape_only

    return build_shape_only(backbone)


def reports() -> bool:
    """Whether this process speaks for a launcher's others: tables are made from what all of them stored."""
    from ..runs.loop import rank_and_world

    return rank_and_world()[0] == 0


def print_written(path: Path) -> None:
    print(f"wrote {path}")


def load_options(arguments: argparse.Namespace) -> LoadOptions:
    from ...backbones.loading.pretrained import LoadOptions

    return LoadOptions(
        device=local_device(arguments.device),
        dtype=arguments.dtype,
        text_dtype=arguments.text_dtype,
        revision=arguments.revision,
        variant=arguments.variant,
        offline=arguments.offline,
        offload=arguments.offload,
        device_map=arguments.device_map,
        quantize=arguments.quantize,
    )


def local_device(device: str) -> str:
    """``cuda`` is the launcher's GPU for this process, where there is a launcher."""
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def weights_source(backbone: str, instead: Literal["random", "meta"]) -> Literal["pretrained", "random", "meta"]:
    """No weights are needed where the backbone's config states its architecture."""
    from ...backbones import build

    return build.weights_source(backbone, instead)


def run_options(arguments: argparse.Namespace) -> RunOptions:
    from ..runs.plan import RunOptions

    return RunOptions(
        weights=arguments.weights,
        split=arguments.split,
        data_root=arguments.data_root,
        captions=arguments.captions,
        limit=arguments.limit,
        skip_bad=arguments.skip_bad,
        seed=arguments.seed,
        results=arguments.results,
        load=load_options(arguments),
    )


def quiet_libraries() -> None:
    """Keep the libraries' loading messages out of the way of ours."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def carried() -> list[str]:
    """Backbones whose weights come with the package."""
    return [name for name in config_files("backbone") if name.startswith("pocket-")]
