"""Trains the judge: ``python -m segscale.bench.generation.train_judge``.

It sees scenes of the split ``train``, half of them through the autoencoder, as generated pictures come. The reference
of the Frechet distance goes into the same file; beside it stands what the judge scores on held-out scenes.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from segscale.files import replaced

from ...backbones.latents.pictures import picture_values
from ...datasets.pocket import GROUNDS, OBJECTS, Scene, make_scene
from .fidelity import Fidelity, fidelity
from .frechet import Gaussian, fit_gaussian
from .judge import areas_seen, pooled_latents, shared_vae
from .judge_files import COVARIANCE, MEAN, WEIGHTS
from .judge_network import CLASSES, JudgeNetwork

log = logging.getLogger(__name__)

STEPS = 700
BATCH = 32
LEARNING_RATE = 4e-3
HELD_OUT = 500
REFERENCE = 5000
REFERENCE_SEED, HELD_OUT_SEED = 2, 3
"""Seed 0 is what twins are evaluated on, seed 1 what their captions come from."""


def batch_of(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Images ``(n, 3, 64, 64)`` in [-1, 1], and the class of every pixel, objects first, then grounds."""
    images = picture_values([scene.image for scene in scenes])
    labels = torch.from_numpy(np.stack([scene.mask for scene in scenes])).long() - 1
    grounds = torch.tensor([len(OBJECTS) + GROUNDS.index(scene.ground) for scene in scenes])
    return images, torch.where(labels < 0, grounds.view(-1, 1, 1), labels)


@torch.no_grad()
def reconstructed(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Images as the autoencoder gives them back."""
    return vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)


def train_network(vae: AutoencoderKL, steps: int) -> JudgeNetwork:
    """Train from nothing, with a cosine step size."""
    torch.manual_seed(0)
    network = JudgeNetwork().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 50) * math.cos(step / steps * math.pi / 2) ** 2
    )
    for step in range(steps):
        images, labels = batch_of([make_scene(0, "train", step * BATCH + i) for i in range(BATCH)])
        images[::2] = reconstructed(vae, images[::2])
        loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 49:
            log.info("judge step %d of %d, loss %.4f", step + 1, steps, loss.item())
    return network.eval().requires_grad_(False)


def scenes_of(seed: int, count: int) -> Iterator[list[Scene]]:
    """Scenes of a seed, some at a time."""
    for start in range(0, count, BATCH):
        yield [make_scene(seed, "val", index) for index in range(start, min(start + BATCH, count))]


@torch.no_grad()
def measure(network: JudgeNetwork, vae: AutoencoderKL, count: int) -> dict[str, float]:
    """Mean IoU in percent over objects and grounds, and fidelity to the captions, on scenes as drawn and as decoded."""
    facts: dict[str, float] = {"scenes": count}
    for kind in ("drawn", "decoded"):
        confusion, named, objects = np.zeros((CLASSES, CLASSES)), list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
        for scenes in scenes_of(HELD_OUT_SEED, count):
            images, labels = batch_of(scenes)
            logits = network(images if kind == "drawn" else reconstructed(vae, images))
            pairs = (labels * CLASSES + logits.argmax(1)).flatten()
            confusion += torch.bincount(pairs, minlength=CLASSES**2).view(CLASSES, CLASSES).numpy()
            named += [np.isin(OBJECTS, scene.objects) for scene in scenes]
            objects += [*areas_seen(logits)[0]]
        hits = np.diag(confusion)
        iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
        found: Fidelity = fidelity(np.stack(named), np.stack(objects))
        facts |= {
            f"{kind}_miou": round(100 * float(iou.mean()), 2),
            f"{kind}_recall": round(100 * found.recall.value, 2),
            f"{kind}_precision": round(100 * found.precision.value, 2),
        }
    return facts


def reference_gaussian(vae: AutoencoderKL, count: int) -> Gaussian:
    """Fit the pooled latents of real scenes that nothing else uses."""
    features = [pooled_latents(vae, batch_of(scenes)[0]) for scenes in scenes_of(REFERENCE_SEED, count)]
    return fit_gaussian(np.concatenate(features))


def main() -> None:
    """Train, measure and write weights and facts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    vae = shared_vae()
    network = train_network(vae, arguments.steps).half()
    reference = reference_gaussian(vae, REFERENCE)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        **network.state_dict(),
        MEAN: torch.from_numpy(reference.mean),
        COVARIANCE: torch.from_numpy(reference.covariance),
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, arguments.output)
    facts = {"steps": arguments.steps, **measure(network.float(), vae, HELD_OUT), "reference_scenes": REFERENCE}
    with replaced(arguments.output.with_suffix(".json")) as file:
        json.dump(facts, file, indent=2)
    log.info("%s", facts)


if __name__ == "__main__":
    main()
