from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segscale.bench.costs import throughput


def test_digests_of_both_files_are_set_against_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(throughput, "digest", lambda content: sizes.append(len(content)))
    throughput.digest_share(throughput.LOADS[0], tmp_path, 3)
    assert sizes == [path.stat().st_size for number in range(3) for path in sorted(tmp_path.glob(f"VOC-{number}.*"))]


@pytest.mark.parametrize("load", throughput.LOADS, ids=lambda load: load.name)
def test_every_image_is_read_and_evaluated(
    load: throughput.Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[tuple[int, ...]] = []
    count = throughput.count_pixels

    def counted(*arguments: object) -> object:
        counts = count(*arguments)
        evaluated.append((*counts.intersection.shape, int(counts.label_area.sum())))
        return counts

    monkeypatch.setattr(throughput, "count_pixels", counted)
    small = replace(load, width=50, height=40)
    assert min(throughput.images_per_second(small, tmp_path, 2)) > 0
    assert evaluated == [(9, load.classes, 50 * 40)] * 3
