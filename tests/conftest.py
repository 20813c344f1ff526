"""Fixtures that several folders of tests use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

LONG_FILES = (
    "test_newcomer.py",
    "test_resume.py",
    "test_soak.py",
    "test_sweep.py",
    "test_object_store.py",
    "test_hub.py",
)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(*parts: str) -> Path:
    """A path beside the checkout, or a skip that says what is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(('shared', *parts))} is not beside the checkout")
    return path


def interruptible() -> None:
    """For a child process: signals count, also where the tests run in the background of a shell, which ignores them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests start processes begin, so that the last tests are short and no worker waits for another."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Digests of weights are not remembered beyond the tests, nor in the user's cache."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def voc_mini() -> Path:
    return shared("data", "voc-mini")


@pytest.fixture(scope="session")
def goca_parity() -> Path:
    return shared("parity", "goca")


@pytest.fixture(scope="session")
def goca_method_cases() -> Path:
    """The part of it that is vendored, so that it is checked on every machine."""
    return Path(__file__).resolve().parent / "parity" / "goca"


@pytest.fixture(scope="session")
def seg4diff_parity() -> Path:
    return shared("parity", "seg4diff")


@pytest.fixture(scope="session")
def tokenizers() -> Path:
    """The published vocabularies: ``clip`` and ``t5``."""
    return shared("data", "tokenizers")


@pytest.fixture(scope="session")
def goca_captions() -> Path:
    return shared("data", "goca-captions")


@pytest.fixture
def memory_for_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device has memory of its own, of which the first row of a batch takes what leaves room for three."""
    memory = "segscale.bench.inference.memory.PeakMemory."
    monkeypatch.setattr(memory + "is_limited", True)
    monkeypatch.setattr(memory + "growth", lambda self: 1000)
    monkeypatch.setattr(memory + "free", lambda self: 4000)
