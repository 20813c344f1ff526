"""Guidance rules beside the plain one: by segments, and by a block whose attention on text is blurred."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...backbones.attention.perturbation import blur_probe
from ...backbones.attention.requests import MapRequest
from ...backbones.attention.sites import Grid, Site, text_site
from ...backbones.backbone import Backbone
from .guidance import ClassifierFree, Guidance, GuidedStep
from .rates import guidance_rates
from .record import SamplingSettings
from .segments import Segmenter, segmenter


class SegmentGuidance(Guidance):
    """``eps_u + w r (eps_c - eps_u)``, with a rate r that evens the strength of guidance over segments.

    Source: S-CFG, arXiv 2404.05384; with GoCA's segments arXiv 2603.06178.
    """

    def __init__(self, scale: float, segmenter: Segmenter) -> None:
        """Guide by the segments that ``segmenter`` makes at every step."""
        super().__init__(scale)
        self.segmenter = segmenter

    def request(self, backbone: Backbone, image_size: int) -> MapRequest | None:
        if not self.needs_unconditional:
            return None
        side = image_size // backbone.latent_stride
        return self.segmenter.request(backbone.sites(image_size), Grid(side, side))

    def __call__(self, step: GuidedStep) -> Tensor:
        if not self.needs_unconditional:
            return step.conditional
        difference = step.conditional - step.unconditional
        rates = torch.stack([self.rates(step, row, difference[row]) for row in range(len(difference))])
        return step.unconditional + self.scale * rates[:, None] * difference

    def rates(self, step: GuidedStep, row: int, difference: Tensor) -> Tensor:
        """The rate at every latent pixel of a picture ``(height, width)``; 1 where its prompt says nothing."""
        size = Grid(*difference.shape[1:])
        segments = self.segmenter(step.conditional_maps[row], step.unconditional_maps[row], size)
        if segments is None:
            return torch.ones_like(difference[0])
        return guidance_rates(difference, segments.to(difference.device), self.scale)


class PerturbedGuidance(Guidance):
    """``eps_p + w (eps - eps_p)``: away from the prediction with one block's attention on text blurred.

    That is eps + s (eps - eps_p) with s = w - 1, after perturbed-attention guidance (arXiv 2403.17377), so that a scale
    of 1 guides nothing, as of plain guidance. No row without prompt is needed.
    """

    def __init__(self, scale: float, backbone: Backbone, site: Site, width: float) -> None:
        """Blur ``site`` by ``width``, as of ``TextBlur``."""
        super().__init__(scale)
        self.backbone, self.site, self.width = backbone, site, width

    @property
    def needs_unconditional(self) -> bool:
        return False

    def __call__(self, step: GuidedStep) -> Tensor:
        if self.scale <= 1:
            return step.conditional
        perturbed = self.perturbed(step)
        return perturbed + self.scale * (step.conditional - perturbed)

    def perturbed(self, step: GuidedStep) -> Tensor:
        """The conditional prediction with the block blurred."""
        rows = [self.site] * len(step.conditional)
        with blur_probe(self.backbone, rows, self.width, step.text_length):
            return step.predict_again()


class BlurredBlock(PerturbedGuidance):
    """Plain guidance of a damaged model: the block is blurred in every conditional prediction, to see what it does."""

    @property
    def needs_unconditional(self) -> bool:
        return self.scale > 1

    def __call__(self, step: GuidedStep) -> Tensor:
        perturbed = self.perturbed(step)
        if not self.needs_unconditional:
            return perturbed
        return step.unconditional + self.scale * (perturbed - step.unconditional)


def guidance_rule(settings: SamplingSettings, backbone: Backbone) -> Guidance:
    """Build the rule that the settings name. Raises UserError for a block that does not read text."""
    method, scale = settings.guidance_method, settings.guidance
    if method == "cfg":
        return ClassifierFree(scale)
    if method in ("s-cfg", "goca-s-cfg"):
        return SegmentGuidance(scale, segmenter(method, backbone, settings.reading))
    site = text_site(backbone.sites(settings.image_size), settings.site, backbone.name)
    rule = PerturbedGuidance if method == "perturbed" else BlurredBlock
    return rule(scale, backbone, site, math.inf if settings.width is None else settings.width)
