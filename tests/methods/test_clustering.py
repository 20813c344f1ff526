from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segscale.bench.evaluation.labelling import resize_scores
from segscale.methods.clustering import (
    contrast_over_tokens,
    merge_greedily,
    spatial_distributions,
    symmetric_divergence,
)


def oracle(parity: Path, case: str) -> dict[str, np.ndarray]:
    return dict(np.load(parity / "oracle" / f"sd3_unsup_{case}.npz"))


@pytest.mark.parametrize("case", ["a", "b"])
def test_contrast_and_divergence_equal_the_published_ones(seg4diff_parity: Path, case: str) -> None:
    stored = oracle(seg4diff_parity, case)
    contrast = contrast_over_tokens(torch.from_numpy(stored["i2t"]))
    assert np.abs(contrast.numpy() - stored["att2mask"]).max() < 1e-6
    divergence = symmetric_divergence(spatial_distributions(torch.from_numpy(stored["att2mask"])))
    assert np.abs(divergence.numpy() - stored["kl"]).max() < 2e-7


@pytest.mark.parametrize(("key", "threshold"), [("0p1", 0.1), ("0p035", 0.035)])
@pytest.mark.parametrize("case", ["a", "b"])
def test_clusters_equal_the_published_ones(seg4diff_parity: Path, case: str, key: str, threshold: float) -> None:
    stored = oracle(seg4diff_parity, case)
    distributions = spatial_distributions(torch.from_numpy(stored["att2mask"]))
    clusters = merge_greedily(distributions, symmetric_divergence(distributions), threshold)
    published = stored[f"merged_{key}"]
    maps = clusters.reshape(published.shape)
    assert np.abs(maps.numpy() - published).max() <= 1e-4 * published.max()
    labels = resize_scores(maps, stored[f"label_{key}"].shape).argmax(0)
    assert np.array_equal(labels.numpy(), stored[f"label_{key}"])


def maps_of(seed: int) -> torch.Tensor:
    return spatial_distributions(torch.rand((12, 6), generator=torch.Generator().manual_seed(seed)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_the_divergence_is_its_definition(seed: int) -> None:
    rows = maps_of(seed).double()
    divergence = symmetric_divergence(rows)
    for x in range(6):
        for y in range(6):
            expected = ((rows[x] - rows[y]) * (rows[x].log() - rows[y].log())).sum() / 2
            assert divergence[x, y] == pytest.approx(float(expected), abs=1e-12)
    assert torch.equal(divergence.diagonal(), torch.zeros(6, dtype=torch.float64))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(1e-4, 0.3))
def test_every_token_is_in_a_cluster_and_the_first_is_an_anchor(seed: int, threshold: float) -> None:
    rows = maps_of(seed)
    divergence = symmetric_divergence(rows)
    clusters = merge_greedily(rows, divergence, threshold)
    assert torch.allclose(clusters[0], rows[divergence[0] < threshold].mean(0))
    assert torch.allclose(clusters.sum(1), torch.ones(len(clusters)))
    assert len(merge_greedily(rows, divergence, 1e-9)) == len(rows)
    assert len(merge_greedily(rows, divergence, 1e9)) == 1


def test_clusters_may_overlap() -> None:
    rows = torch.eye(3)
    divergence = torch.tensor([[0.0, 0.05, 0.2], [0.05, 0.0, 0.05], [0.2, 0.05, 0.0]])
    clusters = merge_greedily(rows, divergence, 0.1)
    assert torch.equal(clusters, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]))
