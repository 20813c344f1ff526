"""The documentation's site has every page, and documents what exists. Building it is ``make docs``."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def pages() -> ModuleType:
    """The module that mkdocs runs."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; make docs brings it")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_has_every_page() -> None:
    listed = re.findall(r"^ +- (?:[^:\n]+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= {*listed}
    assert len(listed) == len({*listed})


def test_links_are_moved_to_pages_of_the_site(pages: ModuleType) -> None:
    readme = (
        "[a](docs/results.md#parts) [b](CONTRIBUTING.md) ![c](results/pocket/figures/scaling.png) [d](https://x.org)"
    )
    assert pages.moved(readme, "") == (
        "[a](results.md#parts) [b](contributing.md) ![c](results/pocket/figures/scaling.png) [d](https://x.org)"
    )
    page = "[a](results.md) [b](../README.md#two-commands) [c](../results/pocket/x.png) [d](#here)"
    expected = "[a](results.md) [b](index.md#two-commands) [c](results/pocket/x.png) [d](#here)"
    assert pages.moved(page, "../") == expected


def test_everything_that_the_reference_names_exists(pages: ModuleType) -> None:
    names = [name for _, members in pages.REFERENCE.values() for name in members.split()]
    assert len(names) > 20
    for name in names:
        module, _, member = f"segscale.{name}".rpartition(".")
        assert getattr(importlib.import_module(module), member).__doc__, name
