"""Trains rungs of the ladder: ``python -m segscale.backbones.pocket.climb --folder FOLDER``.

A rung that the folder holds is not trained again, so the same command resumes; a kill costs the rung in hand. A rung
that was measured there already is trained only if it is named.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from segscale.catalogue import PACKAGED, shipped_configs
from segscale.errors import StoreError
from segscale.files import replaced

from ...datasets.generated import TRAIN_SCENES
from ...datasets.pocket import Scene
from ..build import build_backbone
from .architectures import TWINS, sd3_denoiser, sd15_denoiser
from .ladder import DEPTHS, RUNGS, Rung, config_text
from .train import WEIGHTS, encode_scenes, replaced_folder, train_denoiser

log = logging.getLogger(__name__)

IMAGE_SIZE = 64
MEASUREMENTS = "power-replicates.parquet"
"""Where ``segscale scaling`` keeps measured rungs."""
PARTS = {"sd15": "unet", "sd3": "transformer"}
RELATIVE = "{{ fileDirname }}/../../weights"
"""Weights as seen from the configs beside them; mmengine fills in the folder."""


def weights_folder(folder: Path, rung: Rung) -> Path:
    """Where the denoiser of a rung is kept."""
    return folder / "weights" / rung.name


def train_rung(rung: Rung, folder: Path, latents: Tensor, scenes: list[Scene]) -> None:
    """Train one rung; its weights, in half precision, and its config are kept below ``folder``."""
    twin_name = f"pocket-{rung.family}"
    backbone = build_backbone(twin_name)
    torch.manual_seed(rung.seed)
    build = sd15_denoiser if rung.family == "sd15" else sd3_denoiser
    setattr(backbone.pipeline, PARTS[rung.family], build(rung.width, rung.depth or DEPTHS[rung.family]))
    average = train_denoiser(backbone, TWINS[twin_name], latents, scenes, rung.recipe)
    backbone.denoiser.load_state_dict(average.state_dict())
    with replaced_folder(weights_folder(folder, rung)) as unfinished:
        getattr(backbone.pipeline, PARTS[rung.family]).half().save_pretrained(unfinished / PARTS[rung.family])
    write_config(rung, folder)


def write_config(rung: Rung, folder: Path) -> None:
    """Write the config of a rung whose weights are below ``folder``; SEGSCALE_CONFIGS takes ``folder/configs``."""
    path = folder / "configs" / "backbones" / f"{rung.name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(config_text(rung, f"{RELATIVE}/{rung.name}"))


def carry(rung: Rung, folder: Path) -> None:
    """Copy a trained rung into the package, where it is used by its name."""
    shutil.copytree(weights_folder(folder, rung), WEIGHTS / "rungs" / rung.name, dirs_exist_ok=True)
    path = shipped_configs() / "rungs" / "backbones" / f"{rung.name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(config_text(rung, f"{PACKAGED}rungs/{rung.name}"))


def measured(folder: Path) -> frozenset[str]:
    """Names of the backbones whose measurements ``folder`` holds. Raises StoreError where they cannot be read."""
    path = folder / MEASUREMENTS
    try:
        return frozenset(pd.read_parquet(path, columns=["backbone"])["backbone"]) if path.exists() else frozenset()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged", "copy it anew from where it came, or remove it") from error


def climb(rungs: Sequence[Rung], folder: Path) -> None:
    """Train the rungs that ``folder`` lacks, in their order."""
    missing = [rung for rung in rungs if not weights_folder(folder, rung).is_dir()]
    if not missing:
        return
    latents, scenes = encode_scenes(build_backbone("pocket-sd15").vae, TRAIN_SCENES, IMAGE_SIZE)
    for place, rung in enumerate(missing, 1):
        log.info("%s, %d of %d", rung.name, place, len(missing))
        train_rung(rung, folder, latents, scenes)


def main() -> None:
    """Train the rungs that the command line names, by default all that were not measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="RUNG", help=f"such as {next(iter(RUNGS))}; all that were not measured by default"
    )
    parser.add_argument("--folder", type=Path, default=Path("results/pocket/ladder"))
    parser.add_argument("--carry", action="store_true", help="copy the named rungs into the package instead")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    if unknown := [name for name in arguments.names if name not in RUNGS]:
        parser.error(f"there is no rung {unknown[0]}")
    try:
        done = measured(arguments.folder)
    except StoreError as error:
        parser.error(str(error))
    names = arguments.names or [name for name in RUNGS if name not in done]
    rungs = [RUNGS[name] for name in names]
    if arguments.carry:
        for rung in rungs:
            carry(rung, arguments.folder)
    else:
        climb(rungs, arguments.folder)


if __name__ == "__main__":
    main()
