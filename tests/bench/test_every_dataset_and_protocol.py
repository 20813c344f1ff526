"""Real photographs of every dataset, run end to end under every protocol with a pocket backbone."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from segscale.bench.data.prepare import prepare
from segscale.bench.runs.options import RunOptions
from segscale.bench.runs.plan import build_methods, build_task
from segscale.bench.tasks.prompts import prompts_for_present
from segscale.catalogue import config_files, shipped_configs
from segscale.datasets.context import raw_table
from segscale.errors import UserError
from segscale.methods.method import PromptRule
from segscale.registry import build

from ..conftest import shared
from ..datasets.referring_files import reasonseg, refcoco
from .cells import evaluated, run_named

BACKBONE = "pocket-sd15"
# Of another protocol, the first method that suits it.
METHOD_OF_PROTOCOL = {
    "standard": "vanilla",
    "standard-full": "goca-described",
    "goca": "goca",
    "seg4diff": "seg4diff",
    "seg4diff-unsupervised": "seg4diff-masks",
    "referring": "vanilla",
    "referring-head": "goca-described",
}
DATASETS = [name for name in config_files("dataset") if not name.startswith("pocket")]


def linked(source: Path, target: Path) -> Path:
    """A tree of ``source``'s files that may be added to."""
    for path in source.rglob("*"):
        if path.is_file():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return target


def voc(root: Path) -> Path:
    """With detection annotations, made of the masks."""
    folder = linked(shared("data", "voc-mini"), root) / "VOCdevkit/VOC2012"
    classes = build("dataset", "voc", data_root=str(root)).classes
    (folder / "Annotations").mkdir()
    for mask in (folder / "SegmentationClass").glob("*.png"):
        tree = ElementTree.Element("annotation")
        for id in np.unique(np.array(Image.open(mask))):
            if 0 < id < len(classes):
                name = ElementTree.SubElement(ElementTree.SubElement(tree, "object"), "name")
                name.text = classes[id]
        ElementTree.ElementTree(tree).write(folder / "Annotations" / f"{mask.stem}.xml")
    return root


def context(root: Path) -> Path:
    """With the list that GoCA evaluates on."""
    lists = linked(shared("data", "context-mini"), root) / "VOCdevkit/VOC2010/ImageSets"
    (lists / "Segmentation").mkdir()
    (lists / "Segmentation/train.txt").write_text((lists / "SegmentationContext/val.txt").read_text())
    return root


def coco(root: Path, masks: str) -> Path:
    """The images that have a mask, and the masks that the dataset reads."""
    source = shared("data", "coco-mini")
    linked(source, root)
    ending = ".png"
    there = {path.name.removesuffix(ending) for path in (source / masks).glob(f"*{ending}")}
    for image in (root / "images/val2017").iterdir():
        if image.stem not in there:
            image.unlink()
    return root


def own_folder(root: Path) -> Path:
    """Two photographs of VOC with VOC's masks, as a user's own."""
    source = build("dataset", "voc", data_root=str(shared("data", "voc-mini")))
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(2):
        sample = source[index]
        sample.image.save(root / f"images/{sample.id}.png")
        Image.fromarray(sample.label).save(root / f"masks/{sample.id}.png")
    (root / "classes.txt").write_text("\n".join(source.classes))
    return root


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("data")
    found = {
        "voc": voc(base / "voc"),
        "context59": context(base / "context"),
        "context60": base / "context",
        "coco-object": coco(base / "objects", "annotations/panoptic_val2017"),
        "coco-stuff-27": coco(base / "stuff", "stuffthingmaps/val2017"),
        "cityscapes": shared("data", "cityscapes-mini-256"),
        "camvid": shared("data", "camvid-mini", "cityscapes-layout"),
        "ade20k": shared("data", "ade-mini"),
        "folder": own_folder(base / "own"),
        "refcoco": refcoco(base / "refcoco"),
        "refcoco-plus": refcoco(base / "refcoco-plus", "refcoco+"),
        "refcocog": refcoco(base / "refcocog", "refcocog", "refs(umd).p"),
        "reasonseg": reasonseg(base / "reasonseg"),
    }
    for name in ("coco-object", "coco-stuff-27", "refcoco", "refcoco-plus", "refcocog", "reasonseg"):
        prepare(name, str(found[name]), workers=1)
    return found


@pytest.mark.parametrize("protocol", config_files("protocol"))
@pytest.mark.parametrize("name", [*DATASETS, "camvid"])
def test_it_runs_and_is_evaluated(name: str, protocol: str, roots: dict[str, Path], tmp_path: Path) -> None:
    dataset = "cityscapes" if name == "camvid" else name
    limit = 1 if protocol == "standard-full" else 2
    # A dataset of one's own is read where its config says.
    root = str(roots[name]) if name in roots else None
    batch = 16 if protocol == "standard-full" else 1
    options = RunOptions(data_root=root, limit=limit, results=tmp_path, batch=batch)
    rules = build("protocol", protocol)
    method = METHOD_OF_PROTOCOL.get(protocol) or build_methods(None, BACKBONE, rules)[0].name
    if rules.only_listed_datasets and dataset not in rules.datasets:
        with pytest.raises(UserError, match=f"protocol {protocol} says nothing of {dataset}"):
            run_named(BACKBONE, [method], dataset, protocol, options)
        return
    if build("dataset", dataset, **options.dataset_arguments).expressions != rules.asks_expressions:
        with pytest.raises(UserError, match=f"expression.*, which protocol {protocol} does not suit"):
            run_named(BACKBONE, [method], dataset, protocol, options)
        return
    (store,) = run_named(BACKBONE, [method], dataset, protocol, options)
    run = store.read()
    counts = store.load(run)
    task = build_task(dataset, rules, options)
    assert len(counts) == min(limit, len(task.dataset))
    if rules.matching is None:
        labels = [task.target_label(task.dataset[i].label) for i in range(len(counts))]
        scored = [~np.isin(label, [*task.ignored_ids]) for label in labels]
        assert counts.label_area.sum() == sum(int(mask.sum()) for mask in scored)
    one = evaluated(store)
    assert one.missing == 0
    assert 0 <= one.score.miou <= 1
    low, high = one.miou.bounds
    assert one.miou.no_interval or low <= one.score.miou <= high


def test_every_protocol_has_a_method_here() -> None:
    shipped = {path.stem for path in (shipped_configs() / "protocols").glob("*.py")}
    assert METHOD_OF_PROTOCOL.keys() == shipped


def test_goca_counts_and_prompts_context_in_its_published_order(roots: dict[str, Path], goca_parity: Path) -> None:
    published = json.loads((goca_parity / "classes-context.json").read_text())
    task = build_task("context60", build("protocol", "goca"), RunOptions(data_root=str(roots["context60"])))
    data = task.dataset
    assert [[*names] for names in task.names][1:] == published["match_list"][1:]
    raw = {id: int(raw_table()[id]) for id in range(1, 460)}
    plain = build("dataset", "context60", data_root=str(roots["context60"]), split="segmentation-train")
    for index in range(len(data)):
        ours, alphabetical = data[index].label, plain[index].label
        for raw_id, id in raw.items():
            if id and (alphabetical == id).any():
                assert (ours[alphabetical == id] == published["raw_459_id_to_class"][str(raw_id)]).all()
    present = (2, 3, 4, 12)
    rule = PromptRule("published", "first-substring")
    (group,) = prompts_for_present(task.protocol, rule, task.names, "a thing", present).groups
    appended = [published["match_list"][id][0] for id in set(present)]
    assert group.prompt.text == ", ".join(["a thing", *appended])
