"""Pages of the documentation's site that are no files of ``docs/``; mkdocs runs this, see ``mkdocs.yml``.

README, changelog and the pocket results become pages, pictures come along, and the Python reference is made from the
names below.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "build" / "package" / "segscale"
FOLDERS = ("bench", "backbones", "methods", "datasets")
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LEADERBOARD = ROOT / "results" / "pocket" / "leaderboard.md"
# By page of the reference: its title and what it documents.
REFERENCE = {
    "python": (
        "Python",
        """bench.segmenter.load bench.segmenter.Segmenter bench.pictures.segmentation.Segmentation
        bench.trace.trace bench.trace.Trace bench.trace.WordMaps""",
    ),
    "backbones": (
        "Backbones",
        """backbones.backbone.Backbone backbones.attention.sites.Site backbones.attention.requests.MapRequest
        backbones.attention.maps.AttentionMaps backbones.loading.options.LoadOptions""",
    ),
    "methods": ("Methods", "methods.method.Method methods.method.ClassScores methods.method.PromptRule"),
    "datasets": (
        "Datasets",
        """datasets.dataset.Dataset datasets.dataset.Sample datasets.folder.FolderDataset
        datasets.own_folder.OwnFolder""",
    ),
    "tasks": ("Protocols and tasks", "bench.tasks.protocol.Protocol bench.tasks.task.Task"),
    "runs": (
        "Stored runs",
        """bench.runs.store.RunStore bench.runs.store.find_runs bench.runs.record.StoredRun
        bench.runs.counts.StoredCounts bench.report.evaluated.EvaluatedRun""",
    ),
}


def on_startup(**_: object) -> None:
    """Put the folders where they are installed, so that their sources can be read by the names of modules."""
    PACKAGE.mkdir(parents=True, exist_ok=True)
    for source in (*(ROOT / folder for folder in FOLDERS), *(ROOT / "segscale").glob("*.py")):
        link = PACKAGE / source.name
        link.unlink(missing_ok=True)
        link.symlink_to(source)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that lie elsewhere."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=moved((ROOT / source).read_text(), "")))
    files.append(File.generated(config, "leaderboard.md", content=LEADERBOARD.read_text()))
    for beside in (ROOT / "CITATION.cff", *sorted((ROOT / "results" / "pocket").rglob("*.png"))):
        files.append(File.generated(config, beside.relative_to(ROOT).as_posix(), abs_src_path=str(beside)))
    for name, (title, members) in REFERENCE.items():
        text = "\n\n".join([f"# {title}", *(f"::: segscale.{member}" for member in members.split())])
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links of ``docs/`` to what lies beside it lead to pages of the site."""
    return markdown if page.file.generated_by else moved(markdown, "../")


def moved(markdown: str, above: str) -> str:
    """The text with its links as the site has them.

    Args:
        markdown: Of a page of the repository.
        above: How the page's links begin that lead to the repository's folder.
    """

    def target(match: re.Match[str]) -> str:
        path = match.group(1).removeprefix(above)
        if not match.group(1).startswith(above):
            return match.group()
        return f"]({PAGES.get(path, path.removeprefix('docs/'))}{match.group(2)}"

    return re.sub(r"\]\((?!https?:|#)([^)#\s]+)([)#])", target, markdown)
