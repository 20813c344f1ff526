"""What an autoencoder makes of masks: the observations that GenMask (arXiv 2603.23906) rests on.

A mask is encoded as a white on black picture. Measured are how well it survives, how few components its latents have,
and how much noise they stand before a linear classifier no longer tells mask from rest, beside pictures' own latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from segscale.errors import UserError

from ...backbones.latents.images import pixel_values
from ...backbones.latents.noise import image_generator, normal_draws
from ...backbones.latents.pictures import latents_of, pictures_of, white_on_black
from ...backbones.latents.settings import CaptureSettings, Timestep
from ...datasets.dataset import Dataset, Sample
from ...datasets.labels import IGNORE_LABEL
from ..evaluation.intervals import Estimate, estimate_mean
from ..evaluation.metrics import Floats
from ..report.markdown import format_estimate, markdown_table
from ..report.tables import table_rows

SIGMAS = (0.0, 0.3, 0.5, 0.7, 0.85, 0.95)
SHARES = (0.0, 1.0)
FEWEST_IMAGES = 4
Kind = Literal["masks", "pictures"]


@dataclass(frozen=True)
class EncodedImage:
    """A picture and the masks of its classes, as latents."""

    picture: Tensor
    """``(1, channels, height, width)``."""
    masks: Tensor
    """``(masks, channels, height, width)``."""
    shares: Tensor
    """Of every latent pixel, how much of it lies in the mask: ``(masks, height, width)``."""
    survived: float
    """Mean IoU of the masks with what the autoencoder makes of them."""
    generator: torch.Generator
    """Of its noise."""


@dataclass(frozen=True)
class LatentPixels:
    """Latent pixels of one image."""

    values: Floats
    """``(pixels, channels)``."""
    inside: NDArray[np.bool_]
    """Whether more than half of a pixel lies in a mask, ``(pixels,)``."""


def encode(vae: AutoencoderKL, sample: Sample, size: int, background: int | None, seed: int) -> EncodedImage | None:
    """Encode a picture and the mask of every class that it shows, None where it shows none."""
    settings = CaptureSettings(size, Timestep(t=0.0))
    label = torch.from_numpy(sample.label)[None, None].float()
    square = F.interpolate(label, size=(size, size), mode="nearest")[0, 0].to(torch.uint8)
    ids = [int(id) for id in square.unique() if id not in (background, IGNORE_LABEL)]
    if not ids:
        return None
    inside = torch.stack([square == id for id in ids])
    masks = latents_of(vae, white_on_black(inside))
    found = pictures_of(vae, masks).mean(1) > 0
    union = (found | inside).sum((1, 2))
    return EncodedImage(
        picture=latents_of(vae, pixel_values(sample.image, settings)),
        masks=masks,
        shares=F.adaptive_avg_pool2d(inside.float(), (masks.shape[-2], masks.shape[-1])),
        survived=((found & inside).sum((1, 2)) / union).mean().item(),
        generator=image_generator(seed, "latents", sample.id),
    )


def latent_table(vae: AutoencoderKL, dataset: Dataset, size: int, limit: int | None, seed: int) -> pd.DataFrame:
    """One row per measure: measure, of, component or sigma, mean, low, high, images.

    Raises:
        UserError: Fewer than four images show a class.
    """
    indices = tqdm(range(len(dataset))[:limit], desc=f"latents of {dataset.name}", unit="image")
    encoded = [encode(vae, dataset[index], size, dataset.background, seed) for index in indices]
    images = [image for image in encoded if image is not None]
    if len(images) < FEWEST_IMAGES:
        raise UserError(f"{len(images)} images of {dataset.name} show a class, not {FEWEST_IMAGES}", "raise --limit")
    rows = [_row("survival", "masks", None, estimate_mean(np.array([image.survived for image in images]), SHARES))]
    rows += _component_rows(images)
    drawn = [_with_noise(image) for image in images]
    for sigma in SIGMAS:
        for kind in ("masks", "pictures"):
            pixels = [pixels_at(image, noise, kind, sigma) for image, noise in zip(images, drawn, strict=True)]
            rows.append(_row("accuracy", kind, sigma, held_out_accuracy(pixels)))
    return pd.DataFrame(rows).assign(dataset=dataset.name, split=dataset.split, images=len(images), size=size)


def _row(measure: str, kind: Kind, at: float | None, estimate: Estimate) -> dict[str, object]:
    low, high = estimate.bounds
    return {"measure": measure, "of": kind, "at": at, "mean": estimate.value, "low": low, "high": high}


def _with_noise(image: EncodedImage) -> tuple[Tensor, Tensor]:
    """Noise of the picture and of its masks."""
    picture = normal_draws(image.picture, [image.generator])
    return picture, normal_draws(image.masks, [image.generator] * len(image.masks))


def pixels_at(image: EncodedImage, noise: tuple[Tensor, Tensor], kind: Kind, sigma: float) -> LatentPixels:
    """Latent pixels of an image's masks, or of its picture with all masks together, at a noise level."""
    if kind == "masks":
        clean, draw, shares = image.masks, noise[1], image.shares
    else:
        clean, draw, shares = image.picture, noise[0], image.shares.sum(0, keepdim=True)
    values = torch.lerp(clean, draw, sigma).movedim(1, -1).flatten(0, 2)
    return LatentPixels(values.double().numpy(), (shares > 0.5).flatten().numpy())


def held_out_accuracy(images: Sequence[LatentPixels]) -> Estimate:
    """Balanced accuracy of a linear classifier of latent pixels, fitted on every second image, on the others."""
    weights = fit(images[1::2])
    values = [balanced_accuracy(image, weights) for image in images[::2]]
    return estimate_mean(np.array([value for value in values if np.isfinite(value)]), SHARES)


def fit(images: Sequence[LatentPixels]) -> Floats:
    """Weights and offset by least squares of +1 inside and -1 outside, both sides weighing alike (Fisher)."""
    values = np.concatenate([image.values for image in images])
    inside = np.concatenate([image.inside for image in images])
    design = np.column_stack([values, np.ones(len(values))])
    weigh = np.sqrt(np.where(inside, 1 / max(inside.sum(), 1), 1 / max((~inside).sum(), 1)))
    return np.linalg.lstsq(design * weigh[:, None], np.where(inside, 1.0, -1.0) * weigh, rcond=None)[0]


def balanced_accuracy(image: LatentPixels, weights: Floats) -> float:
    """Mean of the shares of inner and of outer pixels that are found; NaN where an image lacks one of them."""
    found = image.values @ weights[:-1] + weights[-1] > 0
    inside = image.inside
    if not 0 < inside.sum() < len(inside):
        return float("nan")
    return float((found[inside].mean() + (~found[~inside]).mean()) / 2)


@dataclass(frozen=True)
class _Moments:
    """Sums over latent pixels of masks, by image."""

    counts: Floats
    values: Floats
    """``(images, channels)``."""
    products: Floats
    """``(images, channels, channels)``."""
    crossed: Floats
    """Of values and shares, ``(images, channels)``."""
    shares: Floats
    squares: Floats

    def components(self, kept: NDArray[np.bool_]) -> Floats:
        """Explained variance of every component, then the first one's correlation with the mask, of some images."""
        n = self.counts[kept].sum()
        mean, share = self.values[kept].sum(0) / n, self.shares[kept].sum() / n
        covariance = self.products[kept].sum(0) / n - np.outer(mean, mean)
        variances, directions = np.linalg.eigh(covariance)
        with_mask = directions[:, -1] @ (self.crossed[kept].sum(0) / n - mean * share)
        spread = np.sqrt(variances[-1] * (self.squares[kept].sum() / n - share**2))
        return np.array([*variances[::-1] / variances.sum(), abs(with_mask) / spread])


def _moments(images: Sequence[EncodedImage]) -> _Moments:
    sums: list[tuple[NDArray[np.float64] | float, ...]] = []
    for image in images:
        values = image.masks.double().movedim(1, -1).flatten(0, 2).numpy()
        shares = image.shares.double().flatten().numpy()
        products = values.T @ values
        sums.append((len(values), values.sum(0), products, shares @ values, shares.sum(), shares @ shares))
    return _Moments(*(np.array(part, np.float64) for part in zip(*sums, strict=True)))


def _component_rows(images: Sequence[EncodedImage]) -> list[dict[str, object]]:
    """Jackknifed: every image's pseudo-value is what it adds."""
    moments, count = _moments(images), len(images)
    whole = moments.components(np.ones(count, np.bool_))
    without = np.array([moments.components(np.arange(count) != image) for image in range(count)])
    estimates = [estimate_mean(column, SHARES) for column in (count * whole - (count - 1) * without).T]
    variances = [_row("variance", "masks", place, each) for place, each in enumerate(estimates[:-1], 1)]
    return [*variances, _row("correlation", "masks", 1, estimates[-1])]


def latent_text(table: pd.DataFrame) -> str:
    """The table in Markdown, numbers with their interval."""
    named = {
        "survival": "IoU of masks through the autoencoder and back",
        "variance": "share of variance of mask latents, component",
        "correlation": "correlation with the mask, component",
        "accuracy": "balanced accuracy of a linear classifier, sigma",
    }
    lines = [
        [
            named[row["measure"]] + ("" if pd.isna(row["at"]) else f" {row['at']:g}"),
            row["of"],
            format_estimate(row["mean"], row["low"], row["high"], spec=".3f"),
        ]
        for row in table_rows(table)
    ]
    return markdown_table(pd.DataFrame(lines), ["measure", "of", "mean [95 %]"])
