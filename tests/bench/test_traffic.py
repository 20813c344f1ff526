from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from segscale.backbones.build import build_backbone
from segscale.bench.costs.traffic import Counter, Question, Traffic
from segscale.methods.build import build_method

KIB = 1024
A_KIB = torch.zeros(16, 16)


@pytest.mark.parametrize(
    ("work", "read", "written", "made"),
    [
        (lambda x: x @ x, 2, 1, 1),
        (lambda x: x.exp(), 1, 1, 1),
        (lambda x: x.clone().exp_(), 2, 2, 1),
        (lambda x: torch.baddbmm(x[None], x[None], x[None], out=torch.empty(1, 16, 16)), 3, 1, 1),
        (lambda x: torch.empty(16, 16).copy_(x), 1, 1, 1),
        (lambda x: x.half(), 1, 0.5, 0.5),
        (lambda x: x.T.reshape(4, 4, 4, 4).flatten(), 1, 1, 1),
        (lambda x: x[:8].T, 0, 0, 0),
        (lambda x: x[:8].exp(), 0.5, 0.5, 0.5),
        (lambda x: x[:1].expand(16, 16).exp(), 1 / 16, 1, 1),
    ],
    ids=[
        "product",
        "new",
        "in place",
        "given memory",
        "overwritten",
        "cast",
        "copied view",
        "view",
        "part",
        "expanded",
    ],
)
def test_operations_read_their_inputs_and_write_their_outputs(
    work: Callable[[Tensor], Tensor], read: float, written: float, made: float
) -> None:
    with Counter() as counter:
        work(A_KIB)
    assert counter.traffic == Traffic(int((read + written) * KIB), int(made * KIB))


def test_the_fused_way_moves_less_and_makes_no_products_of_pixels() -> None:
    backbone = build_backbone("pocket-sd3")
    method = build_method("goca", backbone.name, affinity_order=0)
    size = method.settings.image_size
    question = Question(backbone, size, method.request(backbone.sites(size)))
    (chunked, _), (fused, maps) = question.count("chunked"), question.count("fused")
    assert set(maps.ways.values()) == {"fused"}
    assert 0 < fused.moved < chunked.moved / 2
    assert 0 < fused.made < chunked.made
