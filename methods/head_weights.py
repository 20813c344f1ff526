"""GoCA's auto aggregation over heads (arXiv 2603.06178): a head counts as much as it moves the layer's output.

With O_h the output of head h and W_h its columns of the out projection, o_h = O_h W_h^T is what head h adds to
o = sum_h o_h. Nothing of the size heads x pixels x channels is made: <o_h, o> = <O_h, o W_h>, and
|o_h|^2 = O_h (W_h^T W_h) O_h^T.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        heads, _, width = values.shape[-3:]
        columns = projection.unflatten(1, (heads, width)).permute(1, 0, 2)
        norms = _value_norms(columns, values) if self.value_norm else None
        gram = columns.transpose(1, 2) @ columns if self.measure != "dot-product" else None

        def weights(outputs: Tensor) -> Tensor:
            measured = self._measure(outputs, projection, gram)
            if self.clamp:
                measured = measured.clamp(min=0)
            if norms is not None:
                measured = measured * norms[..., None]
            if self.safe_division:
                return shares(measured, -2)
            share = measured / measured.sum(-2, keepdim=True)
            return share.nan_to_num(nan=1.0) if self.clamp and norms is None else share

        return weights

    def _measure(self, outputs: Tensor, projection: Tensor, gram: Tensor | None) -> Tensor:
        """Measures ``(..., heads, pixels)`` of outputs ``(..., heads, pixels, width)``."""
        norm = None if gram is None else ((outputs @ gram) * outputs).sum(-1).clamp(min=0).sqrt()
        if self.measure == "l2-norm":
            assert norm is not None
            return norm
        total = outputs.transpose(-3, -2).flatten(-2) @ projection.T
        back = (total @ projection).unflatten(-1, (outputs.shape[-3], -1)).transpose(-3, -2)
        product = (outputs * back).sum(-1)
        if norm is None:
            return product
        length = total.norm(dim=-1).clamp(min=COSINE_EPSILON)
        return product / (norm.clamp(min=COSINE_EPSILON) * length[..., None, :])


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


def _value_norms(columns: Tensor, values: Tensor) -> Tensor:
    """Spectral norm of every head's V_h W_h^T, ``(..., heads)``."""
    return torch.linalg.matrix_norm(values @ columns.transpose(1, 2), ord=2)


HEAD_WEIGHTINGS: dict[str, ContributionWeighting | None] = {
    "average": None,
    "l2-norm": ContributionWeighting("l2-norm"),
    "cosine": ContributionWeighting("cosine"),
    "cosine-value-norm": ContributionWeighting("cosine", value_norm=True),
    "dot-product": ContributionWeighting("dot-product"),
    "dot-product-clamped": ContributionWeighting("dot-product", clamp=True),
    "dot-product-value-norm": ContributionWeighting("dot-product", clamp=True, value_norm=True),
}
