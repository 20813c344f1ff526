"""Makes the pocket twin that draws masks, from nothing."""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL

from ...backbones.build import build_backbone
from ...backbones.pocket.direct_masks import NAME, build_direct_masks
from ...backbones.pocket.train import replaced_folder, store_twin
from ...backbones.wan import WanMasks
from .direct_mask_scenes import MaskScenes
from .direct_masks import MaskRecipe, MaskTrainer

PLAIN_SCENES = 12_000
PAIR_SCENES = 5_000


def untrained_twin(vae: AutoencoderKL, folder: Path) -> WanMasks:
    """Build the twin's diffusers folder around an autoencoder, and load it."""
    build_direct_masks(vae).save_pretrained(folder)
    backbone = build_backbone(NAME, weights=str(folder))
    assert isinstance(backbone, WanMasks)
    return backbone


def make_direct_mask_twin(vae: AutoencoderKL, folder: Path, kept: Path | None, recipe: MaskRecipe) -> Path:
    """Train the twin and save it in half precision as a diffusers folder below ``folder``.

    Args:
        vae: The autoencoder that all twins share.
        folder: Where twins lie.
        kept: Where the state of an unfinished training is kept.
        recipe: How it is trained.
    """
    with replaced_folder(folder / NAME) as unfinished:
        backbone = untrained_twin(vae, unfinished)
        scenes = MaskScenes(backbone.vae, "train", PLAIN_SCENES, PAIR_SCENES)
        average = MaskTrainer(backbone, scenes, recipe).train(kept)
        store_twin(backbone, average, vae, unfinished)
    return folder / NAME
