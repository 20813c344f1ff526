"""Loads an autoencoder of pictures by itself."""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL

from segscale.catalogue import PACKAGED
from segscale.errors import UserError

from .pretrained import explained, resolve_weights, restoring
from .whole import check_loaded, recorded_loading

POCKET = "pocket"
SHARED = f"{PACKAGED}pocket-sd3"
"""Pocket twins carry one autoencoder, some with its shift folded into the weights."""
PART = "vae"


def load_autoencoder(source: str) -> AutoencoderKL:
    """Load an ``AutoencoderKL`` in float32, in evaluation mode.

    Args:
        source: ``pocket``, or a folder that diffusers wrote: of an autoencoder, or of a pipeline that has one.

    Raises:
        UserError: There is none, or its weights are not whole.
    """
    folder = Path(resolve_weights(SHARED) if source == POCKET else source).expanduser()
    folder = folder / PART if (folder / PART / "config.json").is_file() else folder
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no autoencoder (no config.json)", "name pocket, or a folder of diffusers")
    if (kind := AutoencoderKL.load_config(folder).get("_class_name")) != AutoencoderKL.__name__:
        raise UserError(f"{folder} holds a {kind}, not an AutoencoderKL", "name the folder of one")
    with explained(source, str(folder), "VAE"), recorded_loading() as loaded:
        vae = AutoencoderKL.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        check_loaded(source, {PART: vae}, loaded, restoring(source, str(folder)))
    return vae.float().eval().requires_grad_(False)
