"""Trains a generator to draw masks, as GenMask does (arXiv 2603.23906).

One network learns both tasks, half of every batch each: to draw a picture of a caption, and to draw the mask of what a
text means beside the clean picture. Both by the mean squared error of the velocity ``noise - clean`` at
``(1 - sigma) * clean + sigma * noise``.
"""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import JsonValue
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

import segscale
from segscale.errors import UserError
from segscale.files import explained_writes, replaced_bytes

from ...backbones.latents.pictures import latents_of, pictures_of, white_on_black
from ...backbones.pocket.steps import cosine_share, follow, new_optimiser, set_rate, warm_up_share
from ...backbones.text.conditioning import Conditioning
from ...backbones.wan import FLOW_STEPS, WanMasks
from ...datasets.files import digest
from .checkpoint import refuse_other
from .direct_mask_scenes import MaskScenes, PromptedMasks
from .timestep_laws import HeavyTail, LogitNormal, TimestepLaw

KEPT_EVERY = 200

MaskLoss = Literal["mse", "bce"]
Tasks = Literal["both", "masks", "pictures"]


@dataclass(frozen=True)
class MaskRecipe:
    """How a generator of masks is trained."""

    steps: int = 2000
    batch: int = 16
    """Rows of a step, half of each task; without one of them its half is left out."""
    learning_rate: float = 1.5e-3
    """At its highest."""
    masks: TimestepLaw = field(default_factory=lambda: HeavyTail(0.05))
    """The law of noise levels of masks."""
    pictures: TimestepLaw = field(default_factory=LogitNormal)
    """The law of noise levels of pictures."""
    image_tokens: bool = True
    """Whether masks are drawn beside the clean picture; without it only the text is known."""
    tasks: Tasks = "both"
    """What is learnt: to draw masks, pictures or both."""
    loss: MaskLoss = "mse"
    """Of masks: of the velocity (``mse``), or cross entropy of the decoded mask's grey (``bce``)."""
    seed: int = 0


class MaskTrainer:
    """A training that goes on where it was interrupted: every step draws from seed and step alone."""

    def __init__(self, backbone: WanMasks, scenes: MaskScenes, recipe: MaskRecipe) -> None:
        """Start from the weights that ``backbone`` has."""
        self.backbone = backbone
        self.recipe = recipe
        self._scenes = scenes
        self._denoiser = backbone.denoiser.train().requires_grad_(True)
        self._average = copy.deepcopy(self._denoiser)
        self._began_with: dict[str, JsonValue] = {
            "initial_weights": _weights_digest(self._denoiser),
            "autoencoder": _weights_digest(backbone.vae),
        }
        self._optimiser = new_optimiser(self._denoiser, recipe.learning_rate)
        self._done = 0

    def train(self, kept: Path | None = None) -> nn.Module:
        """Train to the end and return the moving average of the weights.

        Args:
            kept: Where the state is kept now and then, and taken up again where it is there.

        Raises:
            UserError: For a damaged state, or that of another recipe.
        """
        if kept is not None and kept.exists():
            self._take_up(kept)
        steps = range(self._done + 1, self.recipe.steps + 1)
        bar = tqdm(steps, desc="training", unit="step", initial=self._done, total=self.recipe.steps)
        for step in bar:
            bar.set_postfix(loss=f"{self._step(step):.3f}", refresh=False)
            self._done = step
            if kept is not None and step % KEPT_EVERY == 0:
                self._keep(kept)
        return self._average.eval().requires_grad_(False)

    def _step(self, step: int) -> float:
        recipe = self.recipe
        rng, generator = np.random.default_rng([recipe.seed, step]), _generator(recipe.seed, step)
        rows, losses = recipe.batch // 2, list[float]()
        set_rate(self._optimiser, recipe.learning_rate * (warm_up_share(step) * cosine_share(step, recipe.steps)))
        self._optimiser.zero_grad()
        if recipe.tasks != "pictures":
            losses.append(_backward(self._mask_loss(self._scenes.prompted(rows, rng), generator)))
        if recipe.tasks != "masks":
            losses.append(_backward(self._picture_loss(*self._scenes.captioned(rows, rng), generator)))
        nn.utils.clip_grad_norm_(self._denoiser.parameters(), 1.0)
        self._optimiser.step()
        follow(self._average, self._denoiser, step)
        return losses[0]

    def _mask_loss(self, batch: PromptedMasks, generator: torch.Generator) -> Tensor:
        clean = latents_of(self.backbone.vae, white_on_black(torch.from_numpy(batch.masks)))
        sigma, noised, velocity = self._noised(clean, self.recipe.masks, generator)
        latent = self.backbone.mask_latent(batch.pictures, noised) if self.recipe.image_tokens else noised
        answer = self._denoise(latent, sigma, batch.texts)
        if self.recipe.loss == "mse":
            return F.mse_loss(answer, velocity)
        return grey_cross_entropy(self.backbone, noised - sigma.view(-1, 1, 1, 1) * answer, batch.masks)

    def _picture_loss(self, clean: Tensor, captions: list[str], generator: torch.Generator) -> Tensor:
        sigma, noised, velocity = self._noised(clean, self.recipe.pictures, generator)
        return F.mse_loss(self._denoise(noised, sigma, captions), velocity)

    def _noised(self, clean: Tensor, law: TimestepLaw, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        sigma = law.draw(len(clean), generator)
        draw = torch.randn(clean.shape, generator=generator)
        return sigma, torch.lerp(clean, draw, sigma.view(-1, 1, 1, 1)), draw - clean

    def _denoise(self, latent: Tensor, sigma: Tensor, texts: list[str]) -> Tensor:
        return self.backbone.denoise(latent, FLOW_STEPS * sigma, self._encoded(texts))

    def _encoded(self, texts: list[str]) -> Conditioning:
        with torch.no_grad():
            return self.backbone.encode_text(texts)

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Everything that the weights follow from."""
        recipe = {name: repr(value) for name, value in vars(self.recipe).items()}
        return {**recipe, **self._scenes.identity, **self._began_with, "version": segscale.__version__}

    def _keep(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "step": self._done,
            "denoiser": self._denoiser.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        with explained_writes(path.parent, "--folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_bytes(path) as file:
                torch.save(state, file)

    def _take_up(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            refuse_other(f"{path} is of another training", state["identity"], self.identity, _anew(path))
            self._denoiser.load_state_dict(state["denoiser"])
            self._average.load_state_dict(state["average"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._done = state["step"]
        except (UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError) as error:
            raise UserError(f"{path} is damaged", _anew(path)) from error


def _anew(path: Path) -> str:
    return f"to begin anew: rm {shlex.quote(str(path))}"


def _weights_digest(model: nn.Module) -> str:
    return digest(save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))


def grey_cross_entropy(backbone: WanMasks, clean: Tensor, masks: np.ndarray) -> Tensor:
    """Binary cross entropy of decoded masks; their grey in [-1, 1], four times as large, is the logit."""
    logits = 4 * pictures_of(backbone.vae, clean).mean(1)
    return F.binary_cross_entropy_with_logits(logits, torch.from_numpy(masks).float())


def _generator(seed: int, step: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, step, 1]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _backward(loss: Tensor) -> float:
    """Add a loss's gradient to that of the weights, and return its value."""
    loss.backward()
    return loss.item()
