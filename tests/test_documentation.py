"""What the documents name exists, and what they show runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
from PIL import Image

import segscale
from segscale.backbones.backbone import Backbone
from segscale.bench.commands.main import program
from segscale.bench.evaluation.referring import PRECISIONS
from segscale.bench.generation.power_record import Measure, PowerRecord
from segscale.bench.generation.record import StoredPictures
from segscale.bench.report.evaluated import evaluate_runs
from segscale.bench.report.tables import class_table, long_table
from segscale.bench.runs.loop import run_methods
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.parts import SCHEMA
from segscale.bench.runs.plan import build_task
from segscale.bench.runs.record import StoredRun
from segscale.bench.tasks.protocol import Protocol
from segscale.catalogue import config_files
from segscale.methods.build import build_method
from segscale.registry import build

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SOURCES = ("segscale/", "bench/", "backbones/", "methods/", "datasets/", "configs/", "tests/")
# Pages whose Python blocks are run: here, by tests/test_newcomer.py and by tests/bench/test_mmseg.py.
RUN = {"README.md", "python.md", "results.md", "extending.md", "mmsegmentation.md"}
README_LINES = 120
FILE_ROW = re.compile(r"^\| (`[^|]*\.csv`[^|]*) \|(.*)$", re.MULTILINE)
STANDS_FOR = {
    "<metric>": ("ciou", "giou", *(f"precision_{limit:g}" for limit in PRECISIONS)),
    "<measure>": ("recall", "precision", "f1", "ground", "frechet"),
    "<method>": tuple(config_files("method")),
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCED.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """Code within sentences."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def shown_commands(page: Path) -> Iterator[list[str]]:
    """The words after ``segscale`` wherever code shows a command."""
    blocks = "\n".join(block for _, block in FENCED.findall(page.read_text()))
    indented = re.findall(r"^ {4}(.*)$", prose(page), re.MULTILINE)
    for line in (*spans(page), *blocks.splitlines(), *indented):
        for words in re.findall(r"\bsegscale ([a-z][^#`)]*)", line):
            yield words.split()


def section(page: str, title: str) -> str:
    """The text of a page from a heading of the second level to the next."""
    return (ROOT / "docs" / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> set[str]:
    """Everything in backticks in the first cells of tables."""
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def python_blocks(page: Path) -> list[str]:
    return [block for language, block in FENCED.findall(page.read_text()) if language == "python"]


def headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose(page)):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_modules_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        if span.startswith(SOURCES) and not re.search(r"[<*… ]", span):
            assert (ROOT / span).exists(), span
    for name, path in re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w/]+\.py)`", prose(page)):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{name} in {path}"


def test_the_architecture_names_every_module_of_the_bench() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    modules = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "bench").rglob("[!_]*.py"))
    unnamed = [module for module in modules if f"`{module}`" not in text]
    assert unnamed == [], "say in docs/architecture.md what it is for"


@every_page
def test_commands_and_options_that_are_shown_exist(page: Path) -> None:
    for first, *words in shown_commands(page):
        assert first in program.commands, first
        command = program.commands[first]
        if isinstance(command, click.Group):
            assert words[0] in command.commands, f"{first} {words[0]}"
            command = command.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        shown = {word.rstrip(".,;:") for word in words if word.startswith("-")}
        assert shown <= known, f"segscale {first} {' '.join(shown - known)}"


def test_commands_are_found_on_the_pages() -> None:
    assert ["data", "check"] in [words[:2] for words in shown_commands(ROOT / "README.md")]
    assert "predict" in [words[0] for words in shown_commands(ROOT / "README.md")]


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES
    reached = [ROOT / "README.md"]
    for page in reached:
        links = (page.parent / path for path in re.findall(r"\]\((?!https?:)([^)#]+\.md)", prose(page)))
        reached += [link.resolve() for link in links if link.resolve() not in reached]
    assert [page.name for page in PAGES if page.resolve() not in reached] == []


def test_python_is_shown_where_a_test_runs_it() -> None:
    assert {page.name for page in PAGES if python_blocks(page)} == RUN


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (60, 40), "green").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks(ROOT / "README.md")
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["result"].labels.shape == (40, 60)


def test_the_python_of_its_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (60, 40), "green").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in python_blocks(ROOT / "docs/python.md"):
        exec(block, names)
    result, maps = names["result"], names["maps"]
    assert result.labels.dtype == "uint8"
    assert [*result.areas] == ["background", "star", "ring"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"photo_overlay.jpg", "photo_labels.png"}
    assert maps.text["mid-vit-block0"].shape == (64, 16)
    assert maps.tokens[0].classes == ((1,),)


def test_the_version_to_cite_is_that_of_the_package() -> None:
    assert f"\nversion: {segscale.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds ``results`` with one run."""
    folder = tmp_path_factory.mktemp("documentation")
    options = RunOptions(limit=1, results=folder / "results")
    task = build_task("pocket", build("protocol", "standard"), options)
    run_methods("pocket-sd15", [build_method("vanilla", "pocket-sd15")], task, options)
    return folder


def test_the_python_of_the_results_runs(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(results)
    (block,) = python_blocks(ROOT / "docs/results.md")
    exec(block, {})
    assert "(1, 17, 13)" in capsys.readouterr().out


def test_the_columns_of_tables_are_documented(results: Path) -> None:
    evaluated = evaluate_runs(results / "results")
    assert rows(section("results.md", "`scaling.csv`")) == set(long_table(evaluated).columns)
    described = section("results.md", "`classes.csv`")
    assert [name for name in class_table(evaluated).columns if f"`{name}`" not in described] == []


def described_columns(file: str) -> Iterator[set[str]]:
    """What docs/results.md names in the rows of files that are called like this one, or in a section of its own."""
    yield {*chain.from_iterable(map(stood_for, re.findall(r"`([^`]+)`", section("results.md", f"`{file}`"))))}
    for cell, rest in FILE_ROW.findall((ROOT / "docs/results.md").read_text()):
        patterns = [re.sub("<[^>]*>", "*", name) for name in re.findall(r"`(?:genmask/)?([^`/]+)\.csv`", cell)]
        if any(fnmatch(file, f"{pattern}*.csv") for pattern in patterns):
            names = re.findall(r"`([^`]+)`", rest)
            yield {*chain.from_iterable(map(stood_for, names))}


def stood_for(name: str) -> set[str]:
    """The names that one with a placeholder stands for; of a file, its columns."""
    if name == "scaling.csv":
        return rows(section("results.md", "`scaling.csv`"))
    placeholder = next((each for each in STANDS_FOR if each in name), "")
    return {name.replace(placeholder, each) for each in STANDS_FOR[placeholder]} if placeholder else {name}


@pytest.mark.parametrize("path", sorted((ROOT / "results/pocket").rglob("*.csv")), ids=lambda path: path.name)
def test_the_columns_of_shipped_tables_are_documented(path: Path) -> None:
    columns = set(path.read_text().partition("\n")[0].split(","))
    described = [*described_columns(path.name)]
    missing = min((sorted(columns - names) for names in described), key=len)
    assert missing == [], "name them in docs/results.md"


def test_the_fields_of_pictures_and_power_are_documented() -> None:
    described = section("results.md", "Pictures and power")
    as_of_runs = ("plan.backbone", "machine", "sources")
    pictures = {name for name in leaves(StoredPictures) if not name.startswith(as_of_runs)} | {*as_of_runs}
    power = {name for name in leaves(PowerRecord) if "." not in name and name != "measures"} | {*leaves(Measure)}
    assert [name for name in sorted(pictures | power) if f"`{name}`" not in described] == []


def test_the_columns_of_parts_are_documented() -> None:
    assert rows(section("results.md", "Parts")) == set(SCHEMA.names)


def test_the_fields_of_a_stored_run_are_documented() -> None:
    expected = {name for name in leaves(StoredRun) if not name.startswith("plan.")}
    expected |= {"plan"} | {name.removeprefix("plan.") for name in leaves(StoredRun) if name.startswith("plan.")}
    assert rows(section("results.md", "`run.json`")) == expected


def leaves(record: Any, prefix: str = "") -> Iterator[str]:
    """Names of all fields, of nested records by the path that leads there."""
    types = get_type_hints(record)
    for field in fields(record):
        name = f"{prefix}{field.name}"
        if is_dataclass(types[field.name]):
            yield from leaves(types[field.name], f"{name}.")
        else:
            yield name


def test_what_a_new_family_implements_is_listed() -> None:
    listed = {name.partition("(")[0] for name in rows(section("extending.md", "A new family")) if "(" in name}
    assert listed == {*Backbone.__abstractmethods__}


def test_fields_of_a_protocol_that_are_explained_exist() -> None:
    explained = rows(section("extending.md", "A new protocol"))
    assert "averaging" in explained
    assert explained <= {field.name for field in fields(Protocol)}
