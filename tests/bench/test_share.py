"""How many images a process claims at once."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from segscale.bench.inference.batch import BatchLimit
from segscale.bench.runs import share
from segscale.bench.runs.share import ImageShare

IMAGES = 40


class Lease:
    """Another process holds all images from the third on, until they were asked for three times."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def claim(self, indices: Iterable[int], most: int) -> list[int]:
        self.asked.append(most)
        open_indices = [*indices] if len(self.asked) > 3 else [index for index in indices if index < 2]
        return open_indices[:most]

    def release(self, indices: Iterable[int]) -> None:
        pass


class Clock:
    """Time passes where the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def asked(clock: Clock, image_seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run through all images, and return how many were to be claimed at once, every time."""
    monkeypatch.setattr(share, "time", clock)
    names = tuple(map(str, range(IMAGES)))
    dataset, run = SimpleNamespace(ids=names), SimpleNamespace(due=frozenset(names), look_for_stored=lambda: None)
    lease, reader = Lease(), SimpleNamespace(read=lambda indices: ((index, None) for index in indices))
    images = ImageShare(dataset, [run], lease, BatchLimit(), reader)  # pyright: ignore[reportArgumentType]
    progress = tqdm(total=IMAGES, file=StringIO())
    seen: list[int] = []
    for one_pass in images.passes(range(IMAGES), progress, lambda: None):
        for index, _ in one_pass:
            seen.append(index)
            clock.now += image_seconds
            progress.update()
    assert sorted(seen) == [*range(IMAGES)]
    return lease.asked


@pytest.mark.parametrize(("image_seconds", "most"), [(2.0, 1), (0.125, 8)])
def test_images_are_claimed_for_a_second_in_every_pass(
    image_seconds: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = asked(Clock(), image_seconds, monkeypatch)
    assert counts[:3] == [1, most, most]
    assert counts[3] == 1
    assert {*counts[4:]} == {most}


def test_a_clock_that_stands_still_is_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {*asked(Clock(), 0.0, monkeypatch)} == {1}
