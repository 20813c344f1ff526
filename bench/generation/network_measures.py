"""The power of real backbones: FID and CLIP score. Weights of both networks are local files.

torch-fidelity, and through it torchmetrics, needs torchvision for the Inception network. So it comes as the TorchScript
file that StyleGAN2-ADA publishes of that very network, which torch alone loads. CLIP is transformers'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from segscale.errors import UserError

from ...backbones.loading.pretrained import explained
from ..evaluation.intervals import estimate_mean
from ..evaluation.metrics import Floats
from .frechet import estimate_frechet, fit_gaussian
from .power_record import Measure
from .prompts import PicturePrompt

BATCH = 16
INCEPTION_SIDE = 299
INCEPTION_FILE = "inception-2015-12-05.pt, as NVlabs/stylegan2-ada-pytorch names it"
FID_GROUPS = 20
"""A root of a 2,048 x 2,048 matrix takes seconds."""

FeatureNetwork = Callable[[Tensor], Tensor]
"""From uint8 images ``(n, 3, height, width)`` to features ``(n, 2048)``."""


class ClipScorer:
    """How well pictures fit their prompts: ``100 max(0, cos)``.

    Source: Hessel et al., arXiv 2104.08718, whose factor is 2.5; papers on text-to-image models report this scale.
    """

    def __init__(self, weights: str, device: str = "cpu") -> None:
        """Load a CLIP model of transformers from a local folder or the hub, safetensors only."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        with explained(weights, weights, option="--clip"):
            # Published effects are smaller than what half precision can tell apart.
            model: Any = CLIPModel.from_pretrained(weights, use_safetensors=True, dtype=torch.float32)
            self.tokenizer: Any = CLIPTokenizer.from_pretrained(weights)
            self.processor: Any = CLIPImageProcessorPil.from_pretrained(weights)
        self.model = model.to(device).eval()
        self.device = device

    @torch.no_grad()
    def scores(self, pictures: Sequence[Image], texts: Sequence[str]) -> Floats:
        """Return a score for every picture and its text."""
        pixels = self.processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")
        tokens = self.tokenizer([*texts], padding=True, truncation=True, return_tensors="pt")
        output = self.model(**tokens.to(self.device), pixel_values=pixels["pixel_values"].to(self.device))
        cosine = F.cosine_similarity(output.image_embeds, output.text_embeds)
        return 100 * cosine.clamp(min=0).double().cpu().numpy()


def load_inception(path: Path, device: str = "cpu") -> FeatureNetwork:
    """Load the Inception network of the FID from a TorchScript file.

    Raises:
        UserError: For a file that is missing or no TorchScript.
    """
    try:
        network: Any = torch.jit.load(path, map_location=device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        hint = f"name the TorchScript file {INCEPTION_FILE}"
        raise UserError(f"{path} cannot be loaded as TorchScript", hint) from error

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return network(images.to(device), return_features=True)

    return features


def features_of(network: FeatureNetwork, images: Iterable[Image]) -> Floats:
    """Features of images of any size, float64 ``(images, features)``; each is brought to 299 x 299 pixels first.

    Pillow's bicubic filter does it, which does not alias. Source: Parmar et al., arXiv 2104.11222.
    """
    parts = [network(torch.stack([_pixels(image) for image in batch])) for batch in _batches(images)]
    return torch.cat(parts).double().cpu().numpy()


def fid_measure(network: FeatureNetwork, pictures: Iterable[Image], real: Iterable[Image]) -> Measure:
    """Measure the Frechet distance of pictures from as many real images."""
    reference = fit_gaussian(features_of(network, real))
    return Measure.of(estimate_frechet(features_of(network, pictures), reference, FID_GROUPS))


def clip_measure(
    scorer: ClipScorer, prompts: Sequence[PicturePrompt], pictures: Iterable[Image]
) -> tuple[Measure, pd.DataFrame]:
    """Measure the mean CLIP score with Student's interval; and a row per picture."""
    texts = iter(prompt.text for prompt in prompts)
    scores = np.concatenate([scorer.scores(batch, [*islice(texts, len(batch))]) for batch in _batches(pictures)])
    rows = pd.DataFrame({"id": [prompt.id for prompt in prompts], "clip_score": scores})
    return Measure.of(estimate_mean(scores, bounds=(0.0, 100.0))), rows


def _pixels(image: Image) -> Tensor:
    resized = image.convert("RGB").resize((INCEPTION_SIDE, INCEPTION_SIDE))
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)


def _batches(images: Iterable[Image]) -> Iterator[list[Image]]:
    iterator = iter(images)
    while batch := [*islice(iterator, BATCH)]:
        yield batch
