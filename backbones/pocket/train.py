"""Makes pocket twins from nothing: ``python -m segscale.backbones.pocket.train NAME``.

The twin is trained through the same backbone class that later reads its attention. The shared autoencoder
is trained first where the folder has none.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from segscale.registry import load_config

from ...datasets.generated import TRAIN_SCENES
from ...datasets.pocket import GROUNDS, OBJECTS, Scene, caption_of
from ..backbone import Backbone
from ..build import build_backbone
from ..latents.pictures import latents_of
from ..text.conditioning import Conditioning
from .architectures import TWINS, Twin
from .autoencoder import fold_shift, halved, train_autoencoder
from .recipe import Recipe
from .scenes import scene_batch
from .steps import cosine_share, follow, new_optimiser, set_rate, warm_up_share

log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parent / "weights"
BATCH = 32
CAPTION_DROPOUT = 0.1


def training_caption(scene: Scene, rng: np.random.Generator, noise: float = 0.0) -> str:
    """Say the scene's words in a new order: with articles, as a list or joined by blanks, now and then none.

    Args:
        scene: What is shown.
        rng: Of all choices.
        noise: Probability that a word is replaced by any object, or the ground by any ground.
    """
    if rng.random() < CAPTION_DROPOUT:
        return ""
    words = np.array([*scene.objects, scene.ground])
    if noise:
        others = [rng.choice(OBJECTS) for _ in scene.objects] + [rng.choice(GROUNDS)]
        words = np.where(rng.random(len(words)) < noise, others, words)
    rng.shuffle(words)
    style = rng.integers(4)
    return caption_of(tuple(words), articles=bool(style < 2), separator=" " if style == 3 else ", ")


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, count: int, image_size: int) -> tuple[Tensor, list[Scene]]:
    """Make scenes and their scaled latents, square ``(count, channels, size, size)``."""
    latents: list[Tensor] = []
    scenes: list[Scene] = []
    for start in range(0, count, 100):
        images, batch = scene_batch(range(start, start + 100))
        if image_size != images.shape[-1]:
            images = F.interpolate(images, size=(image_size, image_size), mode="bicubic").clamp(-1, 1)
        latents.append(latents_of(vae, images))
        scenes += batch
    return torch.cat(latents), scenes


def noised_batch(twin: Twin, backbone: Backbone, clean: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return noised latents, the timesteps to feed, and what the denoiser should answer."""
    draw = torch.randn_like(clean)
    if twin.noise == "flow":
        sigma = level.view(-1, 1, 1, 1)
        return (1 - sigma) * clean + sigma * draw, 1000 * level, draw - clean
    timestep = (1 + 998 * level).long()
    alpha_bar = backbone.pipeline.scheduler.alphas_cumprod[timestep].view(-1, 1, 1, 1)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return signal * clean + noise * draw, timestep.float(), signal * draw - noise * clean


def training_batches(
    backbone: Backbone, latents: Tensor, scenes: list[Scene], recipe: Recipe
) -> Iterator[tuple[Tensor, Conditioning]]:
    """Draw batches of latents and the conditioning of new captions of their scenes."""
    rng = np.random.default_rng(recipe.seed)
    for _ in range(recipe.steps):
        chosen = rng.integers(min(len(scenes), recipe.scenes), size=BATCH)
        captions = [training_caption(scenes[i], rng, recipe.caption_noise) for i in chosen]
        with torch.no_grad():
            conditioning = backbone.encode_text(captions)
        yield latents[torch.from_numpy(chosen)], conditioning


def train_denoiser(backbone: Backbone, twin: Twin, latents: Tensor, scenes: list[Scene], recipe: Recipe) -> nn.Module:
    """Train the denoiser in place and return its moving average; latents and scenes as of ``encode_scenes``."""
    torch.manual_seed(recipe.seed)
    steps = recipe.steps
    denoiser = backbone.denoiser.train().requires_grad_(True)
    average = copy.deepcopy(denoiser)
    optimiser = new_optimiser(denoiser, twin.learning_rate)
    draws = torch.distributions.Beta(*twin.concentration)
    running, start = 0.0, time.monotonic()
    for step, (clean, conditioning) in enumerate(training_batches(backbone, latents, scenes, recipe), 1):
        set_rate(optimiser, twin.learning_rate * warm_up_share(step) * cosine_share(step, steps))
        noised, timestep, target = noised_batch(twin, backbone, clean, draws.sample((len(clean),)))
        loss = F.mse_loss(backbone.denoise(noised, timestep, conditioning), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimiser.step()
        follow(average, denoiser, step)
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            log.info("step %d of %d, loss %.4f, %.1f min", step, steps, running, (time.monotonic() - start) / 60)
    return average.eval().requires_grad_(False)


def make_twin(name: str, folder: Path, vae: AutoencoderKL, steps: int) -> None:
    """Build, train and save the twin ``name`` as a diffusers folder with half-precision weights."""
    twin = TWINS[name]
    with replaced_folder(folder / name) as unfinished:
        twin_vae = vae if twin.decodes_with_shift else fold_shift(vae)
        twin.build(twin_vae).save_pretrained(unfinished)
        backbone = build_backbone(name, weights=str(unfinished))
        image_size = load_config("backbone", name)["method_defaults"]["image_size"]
        latents, scenes = encode_scenes(backbone.vae, TRAIN_SCENES, image_size)
        average = train_denoiser(backbone, twin, latents, scenes, Recipe(steps))
        store_twin(backbone, average, twin_vae, unfinished)


def store_twin(backbone: Backbone, average: nn.Module, vae: AutoencoderKL, folder: Path) -> None:
    """Save a twin with averaged weights in half precision."""
    backbone.denoiser.load_state_dict(average.state_dict())
    backbone.pipeline.to(torch.float16)
    backbone.pipeline.vae = halved(vae)
    backbone.pipeline.save_pretrained(folder)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Give a diffusers folder to write, which takes the place of ``folder`` when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as above:
        unfinished = Path(above) / folder.name
        yield unfinished
        _forget_origin(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)


def _forget_origin(folder: Path) -> None:
    """Drop the path that diffusers notes down, so that equal weights are equal files."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def shared_autoencoder(folder: Path) -> AutoencoderKL:
    """Return the autoencoder of a twin that is already in ``folder``, else a newly trained one."""
    for twin in sorted(folder.glob("*/vae")):
        return AutoencoderKL.from_pretrained(twin, torch_dtype=torch.float32)
    return train_autoencoder()


def main() -> None:
    """Train the twin that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=TWINS)
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where the diffusers folders go")
    parser.add_argument("--steps", type=int, help="instead of the twin's own number of steps")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    vae = shared_autoencoder(arguments.folder)
    make_twin(arguments.name, arguments.folder, vae, arguments.steps or TWINS[arguments.name].steps)


if __name__ == "__main__":
    main()
