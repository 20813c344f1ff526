"""Holds the drawing of the rooms: which module may import which. ``make lint`` runs this.

import-linter would do it if folders lay on the disk as modules do in the package; ours are mapped (see pyproject.toml),
and of them it sees segscale/ alone. Imports for the type checker are left out.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("segscale", "bench", "backbones", "methods", "datasets")
MODELS = ("segscale", "backbones", "methods", "datasets")
HEAVY = frozenset({"torch", "diffusers", "transformers", "mmseg", "mmengine"})
MAX_FRONT_DOORS = 8

EVALUATION = (*MODELS, "bench.evaluation")
TASKS = (*EVALUATION, "bench.tasks")
INFERENCE = (*TASKS, "bench.inference")
RUNS = (*INFERENCE, "bench.runs")
# What the modules of a folder may import; the longest folder that contains a module holds.
ALLOWED = {
    "segscale": ("segscale",),
    "datasets": ("segscale", "datasets"),
    "backbones": ("segscale", "backbones"),
    "backbones.pocket": ("segscale", "backbones", "datasets"),
    "methods": ("segscale", "methods", "backbones.attention", "backbones.latents", "backbones.text"),
    "bench.evaluation": EVALUATION,
    "bench.tasks": TASKS,
    "bench.inference": INFERENCE,
    "bench.runs": RUNS,
    "bench.training": (*RUNS, "bench.generation", "bench.training"),
    "bench.report": (*RUNS, "bench.report"),
    "bench.analysis": (*RUNS, "bench.report", "bench.analysis"),
    "bench.costs": (*RUNS, "bench.costs"),
    "bench.pictures": ("segscale", "datasets", "bench.evaluation", "bench.pictures"),
    "bench.sweeps": (*RUNS, "bench.sweeps"),
    "bench.generation": (*RUNS, "bench.report", "bench.generation"),
    "bench.captions": ("segscale", "datasets", "backbones.loading", "bench.captions"),
    "bench.data": ("segscale", "datasets", "bench.data"),
    # The front doors, which only commands stand before.
    "bench": (*MODELS, "bench"),
    "bench.commands": (*MODELS, "bench"),
}
Drawing = Mapping[str, frozenset[str]]
"""By module, what it imports: modules of ours, such as ``bench.runs.store``, and the names of libraries."""


def drawing(root: Path = ROOT) -> Drawing:
    """Every module below ``root`` and its imports, also those within functions."""
    paths = {_module_name(path.relative_to(root)): path for path in _sources(root)}
    return {name: frozenset(_targets(name, path, paths.keys())) for name, path in paths.items()}


def problems(root: Path = ROOT) -> list[str]:
    """A line for everything that the drawing does not allow."""
    arrows = drawing(root)
    return [*_circle(arrows), *_arrows_back_up(arrows), *_reached(arrows), *_front_doors(arrows), *_packages(root)]


def _sources(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _targets(module: str, path: Path, modules: Set[str]) -> Iterator[str]:
    """Modules and libraries that a file imports."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (_short(alias.name) for alias in node.names)
            continue
        above = package[: len(package) + 1 - node.level] if node.level else []
        source = _short(".".join([*above, *filter(None, [node.module])]))
        for alias in node.names:
            member = _short(".".join(filter(None, [source, alias.name])))
            yield member if member in modules else source


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, without those under ``if TYPE_CHECKING``."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    elif not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)


def _short(name: str) -> str:
    """A module of ours by its path, a module of a library by the library's name."""
    first, _, rest = name.partition(".")
    if first != "segscale":
        return name if first in FOLDERS else first
    return rest if rest.partition(".")[0] in FOLDERS else name


def _circle(arrows: Drawing) -> Iterator[str]:
    try:
        TopologicalSorter({name: targets & arrows.keys() for name, targets in arrows.items()}).prepare()
    except CycleError as error:
        yield f"circle: {' -> '.join(reversed(error.args[1]))}"


def _arrows_back_up(arrows: Drawing) -> Iterator[str]:
    for name, targets in arrows.items():
        allowed = ALLOWED[max((folder for folder in ALLOWED if _within(name, folder)), key=len)]
        for target in sorted(targets & arrows.keys()):
            permitted = any(_within(target, folder) for folder in allowed)
            if not permitted or (_within(target, "bench.commands") and not _within(name, "bench.commands")):
                yield f"arrow back up: {name} -> {target}"


def _reached(arrows: Drawing) -> Iterator[str]:
    """Reports start without libraries of models; of all backbones only the pocket ones are trained on a dataset."""
    data = frozenset(name for name in arrows if _within(name, "datasets"))
    for name in arrows:
        if _within(name, "bench.report") and (way := _way(name, HEAVY, arrows)):
            yield f"a report needs no model: {way}"
        if _within(name, "backbones") and not _within(name, "backbones.pocket") and (way := _way(name, data, arrows)):
            yield f"a backbone needs no dataset: {way}"


def _way(name: str, ends: Set[str], arrows: Drawing) -> str:
    """The shortest way along arrows to one of ``ends``, empty where there is none."""
    ways = {name: name}
    for module in (waiting := [name]):
        for target in sorted(arrows.get(module, frozenset()) - ways.keys()):
            ways[target] = f"{ways[module]} -> {target}"
            if target in ends:
                return ways[target]
            waiting.append(target)
    return ""


def _front_doors(arrows: Drawing) -> Iterator[str]:
    rooms = {name.rpartition(".")[0] for name in arrows}
    doors = [name for name in arrows if name.startswith("bench.") and name.count(".") == 1 and name not in rooms]
    if len(doors) > MAX_FRONT_DOORS:
        yield f"bench/ has {len(doors)} front doors, {MAX_FRONT_DOORS} at most: {', '.join(doors)}"


def _packages(root: Path) -> Iterator[str]:
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for folder in sorted({".".join(path.parent.relative_to(root).parts) for path in _sources(root)}):
        package = folder if _within(folder, "segscale") else f"segscale.{folder}"
        if package not in listed:
            yield f"pyproject.toml lists no package {package}"


def _within(name: str, folder: str) -> bool:
    return f"{name}.".startswith(f"{folder}.")


if __name__ == "__main__":
    if lines := problems():
        sys.exit("\n".join(lines))
    sys.stdout.write(f"{len(drawing())} modules, no circle, no arrow back up\n")
