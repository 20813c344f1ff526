"""The network of the judge: a small U-Net that names the class of every pixel of a pocket scene."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.pocket import GROUNDS, OBJECTS

CLASSES = len(OBJECTS) + len(GROUNDS)
"""Objects first, then grounds."""
WIDTHS = (16, 32, 48)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


class JudgeNetwork(nn.Module):
    """Three resolutions, joined on the way up; 94 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.fine = _block(3, fine)
        self.middle = _block(fine, middle)
        self.coarse = _block(middle, coarse)
        self.join_middle = _block(coarse + middle, middle)
        self.join_fine = _block(middle + fine, fine)
        self.out = nn.Conv2d(fine, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, CLASSES, height, width)`` of images ``(n, 3, height, width)`` in [-1, 1]."""
        fine = self.fine(images)
        middle = self.middle(F.avg_pool2d(fine, 2))
        coarse = self.coarse(F.avg_pool2d(middle, 2))
        middle = self.join_middle(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        return self.out(self.join_fine(torch.cat([F.interpolate(middle, scale_factor=2.0), fine], 1)))
