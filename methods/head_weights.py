"""GoCA's auto aggregation over heads (arXiv 2603.06178): a head counts as much as it moves the layer's output.

With O_h the output of head h and W_h its columns of the out projection W, o_h = O_h W_h^T is what head h adds to
o = sum_h o_h. Nothing of the size heads x pixels x channels is made: <o_h, o> = <O_h, o W_h>, |o|^2 = sum_h <o_h, o>,
and |o_h|^2 = O_h (W_h^T W_h) O_h^T.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from segscale.errors import UserError

from ..backbones.attention.rules import HeadWeighting, HeadWeights
from .safe_division import shares

HeadMeasure = Literal["l2-norm", "cosine", "dot-product"]
COSINE_EPSILON = 1e-8


@dataclass(frozen=True)
class ContributionWeighting(HeadWeighting):
    """Weighs heads by what each adds to the layer's output; the weights of a pixel sum to one."""

    measure: HeadMeasure
    """``dot-product`` <o_h, o>, ``cosine`` of the two, or ``l2-norm`` |o_h|."""
    clamp: bool = False
    """Negative measures count as 0; a pixel without any positive one has all weights 1 (published)."""
    value_norm: bool = False
    """The measure is multiplied by the largest singular value of V_h W_h^T over the prompt's tokens."""
    safe_division: bool = False
    """A pixel whose weights are undefined averages its heads."""

    def bind(self, projection: Tensor | None, values: Tensor) -> HeadWeights:
        """Return the weights at one module, see ``HeadWeighting.bind``."""
        assert projection is not None
        layer = _OutProjection(projection, values.shape[-3])
        norms = layer.value_norms(values) if self.value_norm else None

        def weights(outputs: Tensor) -> Tensor:
            measured = self._measure(outputs, layer)
            if self.clamp:
                measured = measured.clamp(min=0)
            if norms is not None:
                measured = measured * norms[..., None]
            if self.safe_division:
                return shares(measured, -2)
            share = measured / measured.sum(-2, keepdim=True)
            return share.nan_to_num(nan=1.0) if self.clamp and norms is None else share

        return weights

    def _measure(self, outputs: Tensor, layer: _OutProjection) -> Tensor:
        """Measures ``(..., heads, pixels)`` of outputs ``(..., heads, pixels, width)``."""
        if self.measure == "l2-norm":
            return layer.norms(outputs)
        products = layer.products(outputs)
        if self.measure == "dot-product":
            return products
        length = products.sum(-2, keepdim=True).clamp(min=0).sqrt().clamp(min=COSINE_EPSILON)
        return products / (layer.norms(outputs).clamp(min=COSINE_EPSILON) * length)


@dataclass(frozen=True)
class _OutProjection:
    """The layer behind the heads."""

    weight: Tensor
    """float32 ``(channels, heads * width)``."""
    heads: int

    @cached_property
    def columns(self) -> Tensor:
        """W of every head, ``(heads, channels, width)``."""
        return self.weight.unflatten(1, (self.heads, -1)).permute(1, 0, 2)

    @cached_property
    def head_grams(self) -> Tensor:
        """W_h^T W_h, ``(heads, width, width)``."""
        return self.columns.transpose(1, 2) @ self.columns

    @cached_property
    def gram(self) -> Tensor:
        """W^T W, ``(heads * width, heads * width)``."""
        return self.weight.T @ self.weight

    def norms(self, outputs: Tensor) -> Tensor:
        """|o_h|, ``(..., heads, pixels)``, of outputs ``(..., heads, pixels, width)``."""
        return ((outputs @ self.head_grams) * outputs).sum(-1).clamp(min=0).sqrt()

    def products(self, outputs: Tensor) -> Tensor:
        """<o_h, o>, ``(..., heads, pixels)``, of outputs ``(..., heads, pixels, width)``."""
        rows = outputs.transpose(-3, -2).flatten(-2)
        # For more pixels at once than channels one product with W^T W is less work than two with W.
        many = rows.shape[-2] > len(self.weight)
        back = rows @ self.gram if many else (rows @ self.weight.T) @ self.weight
        return (rows * back).unflatten(-1, (self.heads, -1)).sum(-1).transpose(-2, -1)

    def value_norms(self, values: Tensor) -> Tensor:
        """Spectral norm of every head's V_h W_h^T, ``(..., heads)``, of values ``(..., heads, tokens, width)``."""
        return torch.linalg.matrix_norm(values @ self.columns.transpose(1, 2), ord=2)


@dataclass(frozen=True)
class OneHead(HeadWeighting):
    """Takes the attention of one head alone."""

    head: int
    needs_projection = False

    def bind(self, projection: Tensor | None, values: Tensor) -> HeadWeights:
        """Return the weights at one module. Raises UserError where it has fewer heads."""
        heads = values.shape[-3]
        if self.head >= heads:
            raise UserError(f"there is no head {self.head} among {heads}", "count heads with: segscale sites")

        def weights(outputs: Tensor) -> Tensor:
            chosen = outputs.new_zeros(outputs.shape[:-1])
            chosen[..., self.head, :] = 1
            return chosen

        return weights


HEAD_WEIGHTINGS: dict[str, ContributionWeighting | None] = {
    "average": None,
    "l2-norm": ContributionWeighting("l2-norm"),
    "cosine": ContributionWeighting("cosine"),
    "cosine-value-norm": ContributionWeighting("cosine", value_norm=True),
    "dot-product": ContributionWeighting("dot-product"),
    "dot-product-clamped": ContributionWeighting("dot-product", clamp=True),
    "dot-product-value-norm": ContributionWeighting("dot-product", clamp=True, value_norm=True),
}
