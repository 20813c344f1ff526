"""mmengine's Runner and mmsegmentation's IoUMetric count what Segscale's own run counts."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from PIL import Image

from segscale.bench import mmseg
from segscale.bench.report.evaluated import EvaluatedRun
from segscale.bench.runs.options import RunOptions
from segscale.datasets.mmseg_import import import_mmseg
from segscale.errors import UserError

from . import cells
from .cells import run_named

DOCUMENT = Path(__file__).parents[2] / "docs/mmsegmentation.md"
CONFIG, SCRIPT = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
# By dataset: its folder below the data root, images, masks, list of the split.
FOLDERS = {
    "voc": (
        "VOCdevkit/VOC2012",
        ("JPEGImages", "SegmentationClass"),
        "ImageSets/Segmentation/val.txt",
    ),
    "ade20k": (
        "ADEChallengeData2016",
        ("images/validation", "annotations/validation"),
        "",
    ),
}


def generated(root: Path, dataset: str) -> Path:
    """Three photographs of noise with boxes of classes, of different sizes, in the dataset's own layout."""
    folder, (images, masks), listed = FOLDERS[dataset]
    for name in (images, masks, *([str(Path(listed).parent)] if listed else ())):
        (root / folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"scene_{index}" for index in range(3)]
    for index, name in enumerate(names):
        height, width = 60 + 10 * index, 90 - 5 * index
        smooth = Image.fromarray(rng.integers(0, 255, (6, 9, 3), np.uint8)).resize((width, height))
        smooth.save(root / folder / images / f"{name}.jpg")
        label = np.zeros((height, width), np.uint8)
        label[5:40, 5:50], label[30:55, 30:80], label[:4] = 1 + index, 20 - index, 255
        Image.fromarray(label).save(root / folder / masks / f"{name}.png")
    if listed:
        (root / folder / listed).write_text("\n".join(names) + "\n")
    return root


def config_of(data_root: Path, work_dir: Path, dataset: str = "voc", **model: Any) -> Config:
    """The documented config on ``dataset`` below ``data_root``."""
    folder, (images, masks), listed = FOLDERS[dataset]
    config = Config.fromstring(CONFIG, ".py")
    config.model.update(dataset=dataset, **model)
    config.test_dataloader.dataset.update(
        type=mmseg.COUNTERPARTS[dataset].dataset_class,
        data_root=str(data_root / folder),
        data_prefix={"img_path": images, "seg_map_path": masks},
        ann_file=listed,
    )
    config.work_dir = str(work_dir)
    config.experiment_name = work_dir.name
    return config


@pytest.fixture(autouse=True)
def mmseg_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine's default scope as in a Runner, and none afterwards."""
    monkeypatch.setattr(DefaultScope, "_instance_dict", OrderedDict())
    DefaultScope.get_instance("test", scope_name="mmseg")


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Config], tuple[dict[str, float], np.ndarray]]:
    """Runs a config; metrics, and int64 ``(4, images, classes)``: intersection, union, prediction, label."""
    metric: Any = import_mmseg("evaluation").IoUMetric
    counted: list[Any] = []
    compute = metric.compute_metrics

    def recorded(self: Any, results: list[Any]) -> dict[str, float]:
        counted.append([[area.numpy() for area in image] for image in results])
        return compute(self, results)

    def run(config: Config) -> tuple[dict[str, float], np.ndarray]:
        metrics: dict[str, float] = Runner.from_cfg(config).test()
        return metrics, np.asarray(counted.pop()).astype(np.int64).swapaxes(0, 1)

    monkeypatch.setattr(metric, "compute_metrics", recorded)
    return run


def own_run(
    data_root: Path, results: Path, dataset: str = "voc", protocol: str = "standard", seed: int = 0
) -> tuple[EvaluatedRun, np.ndarray]:
    """Segscale's own score and areas, in the same form."""
    options = RunOptions(data_root=str(data_root), results=results, seed=seed)
    (store,) = run_named("pocket-sd15", ["vanilla"], dataset, protocol, options)
    own = cells.evaluated(store)
    counts = own.counts.at_threshold(own.threshold)
    intersection, predicted, label = counts.intersection, counts.predicted_area, counts.label_area
    return own, np.stack([intersection, predicted + label - intersection, predicted, label])


def check_equal(metrics: dict[str, float], areas: np.ndarray, own: EvaluatedRun, own_areas: np.ndarray) -> None:
    assert own_areas.shape == areas.shape
    assert np.array_equal(own_areas, areas)
    assert own_areas[0].any()
    # mmsegmentation rounds percent to two decimals.
    assert own.score.accuracy * 100 == pytest.approx(metrics["aAcc"], abs=0.00501)
    if own.run.table_rules.averaging == "all":
        assert own.score.miou * 100 == pytest.approx(metrics["mIoU"], abs=0.00501)


def test_real_photographs_give_the_numbers_of_a_run(voc_mini: Path, tmp_path: Path, evaluated: Any) -> None:
    own, own_areas = own_run(voc_mini, tmp_path / "results")
    metrics, areas = evaluated(config_of(voc_mini, tmp_path / "work"))
    assert areas.shape == (4, 4, 21)
    check_equal(metrics, areas, own, own_areas)
    with np.errstate(invalid="ignore"):
        iou = areas[0].sum(0) / areas[1].sum(0)
    np.testing.assert_allclose(own.score.class_iou, iou, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dataset", "protocol"),
    [("voc", "standard"), ("voc", "standard-full"), ("ade20k", "standard"), ("ade20k", "seg4diff")],
)
def test_datasets_and_protocols_give_the_numbers_of_a_run(
    dataset: str, protocol: str, tmp_path: Path, evaluated: Any
) -> None:
    root = generated(tmp_path / "data", dataset)
    own, own_areas = own_run(root, tmp_path / "results", dataset, protocol)
    metrics, areas = evaluated(config_of(root, tmp_path / "work", dataset, protocol=protocol))
    check_equal(metrics, areas, own, own_areas)


def test_transforms_and_batches_of_the_pipeline_change_nothing(tmp_path: Path, evaluated: Any) -> None:
    root = generated(tmp_path / "data", "voc")
    _, expected = evaluated(config_of(root, tmp_path / "short"))
    config = config_of(root, tmp_path / "usual")
    config.test_dataloader.batch_size = 2
    config.test_dataloader.dataset.pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": (64, 32), "keep_ratio": True},
        {"type": "LoadAnnotations"},
        {"type": "PackSegInputs"},
    ]
    assert np.array_equal(evaluated(config)[1], expected)


def test_seed_and_threshold_count(tmp_path: Path, evaluated: Any) -> None:
    root = generated(tmp_path / "data", "voc")
    _, own_areas = own_run(root, tmp_path / "results", seed=3)
    _, areas = evaluated(config_of(root, tmp_path / "seed", seed=3))
    assert np.array_equal(own_areas, areas)
    _, low = evaluated(config_of(root, tmp_path / "low", threshold=-5.0))
    _, high = evaluated(config_of(root, tmp_path / "high", threshold=5.0))
    assert low[2, :, 0].sum() == 0
    assert high[2, :, 1:].sum() == 0


def test_captions_are_prompted(tmp_path: Path, evaluated: Any) -> None:
    root = generated(tmp_path / "data", "voc")
    captions = tmp_path / "captions.json"
    captions.write_text('{"JPEGImages/scene_0.jpg": "an aeroplane over a sofa, sea and rocks"}')
    options = RunOptions(data_root=str(root), results=tmp_path / "results", captions=captions)
    (store,) = run_named("pocket-sd15", ["vanilla"], "voc", "standard", options)
    own = cells.evaluated(store)
    metrics, _ = evaluated(config_of(root, tmp_path / "work", captions=str(captions)))
    assert (own.counts.captioned.sum(), len(own.counts)) == (1, 3)
    assert own.score.miou * 100 == pytest.approx(metrics["mIoU"], abs=0.00501)


def test_the_first_image_without_a_caption_is_told_once(
    tmp_path: Path, evaluated: Any, caplog: pytest.LogCaptureFixture
) -> None:
    root = generated(tmp_path / "data", "voc")
    captions = tmp_path / "captions.json"
    captions.write_text('{"scene_0": "an aeroplane", "scene_1": " ", "elsewhere": "a sofa"}')
    evaluated(config_of(root, tmp_path / "work", captions=str(captions)))
    told = [record.getMessage() for record in caplog.records if "caption" in record.getMessage()]
    assert told == [f"{captions} has no caption of scene_1.jpg; no further ones are told"]


def test_the_documented_config_runs(tmp_path: Path) -> None:
    root = generated(tmp_path / "data" / "voc", "voc")
    (tmp_path / "segscale_voc.py").write_text(CONFIG)
    process = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    own, _ = own_run(root, tmp_path / "results")
    (printed,) = re.findall(r"'mIoU': (?:np\.float\d+\()?([\d.]+)", process.stdout.splitlines()[-1])
    assert float(printed) == pytest.approx(own.score.miou * 100, abs=0.00501)
    assert "Failed to search registry" not in process.stdout + process.stderr


@pytest.mark.parametrize("name", mmseg.COUNTERPARTS)
def test_a_counterpart_has_the_classes_of_the_protocol(name: str) -> None:
    dataset = mmseg.ForeignDataset(name)
    task = mmseg.task_for("standard", dataset)
    assert len(dataset) == 0
    assert len(task.names) == len(dataset.classes)
    made: Any = inspect.signature(getattr(import_mmseg("datasets"), dataset.counterpart.dataset_class))
    base = inspect.signature(import_mmseg("datasets").BaseSegDataset)
    reduced = made.parameters.get("reduce_zero_label", base.parameters["reduce_zero_label"]).default
    assert dataset.counterpart.reduce_zero_label == reduced
    assert (dataset.background is None) == (name in ("context59", "cityscapes", "ade20k"))


def test_the_views_of_context_are_one_list() -> None:
    assert mmseg.ForeignDataset("context60").classes[1:] == mmseg.ForeignDataset("context59").classes


REFUSED = {
    "best threshold": ({"protocol": "goca"}, "protocol goca chooses its threshold with the labels; "),
    "void as background": ({"protocol": "goca", "threshold": 0.1}, "counts ignored pixels as background"),
    "clusters": ({"protocol": "seg4diff-unsupervised"}, "matches nameless clusters"),
    "another view": ({"protocol": "seg4diff"}, "leaves out the background of voc"),
    "no threshold": ({"protocol": "seg4diff", "dataset": "ade20k", "threshold": 0.1}, "uses no threshold"),
    "no counterpart": ({"dataset": "coco-object"}, "no dataset class for 'coco-object'; there are: voc"),
    "method of clusters": ({"method": "seg4diff-masks"}, "gives nameless masks"),
    "threshold of raw attention": ({"method": "seg4diff", "threshold": 0.1}, "seg4diff has an edge of its own"),
    "misspelt choice of loading": ({"load": {"dtpye": "float16"}}, "LoadOptions takes no 'dtpye'; did you mean dtype"),
    "wrong type of one": ({"load": {"offline": "yes"}}, "offline = 'yes' should be a valid boolean"),
    "no protocol": ({"protocol": "standart"}, "did you mean standard"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_iou_metric_cannot_count_is_refused_in_one_line(case: str) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as caught:
        mmseg.MODELS.build(dict(type="SegscaleSegmentor", **arguments))
    assert "\n" not in str(caught.value)


def relabelled(sample: Any, value: int) -> None:
    sample.gt_sem_seg.data[0, 0, 0] = value


FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "no label": (lambda sample: delattr(sample, "gt_sem_seg"), "put LoadAnnotations into the test pipeline"),
    "resized label": (
        lambda sample: sample.set_data({"gt_sem_seg": PixelData(data=torch.zeros(1, 9, 9, dtype=torch.int64))}),
        r"changes the label of scene_0\.jpg; put LoadAnnotations after Resize",
    ),
    "flipped": (lambda sample: sample.set_metainfo({"flip": True}), "changes the label"),
    "unknown id": (lambda sample: relabelled(sample, 21), "id 21 is none of 21 classes; test with PascalVOCDataset"),
    "zero dropped": (lambda sample: sample.set_metainfo({"reduce_zero_label": True}), "reduce_zero_label is not False"),
    "no image": (lambda sample: sample.set_metainfo({"img_path": "/nowhere.jpg"}), r"there is no /nowhere\.jpg"),
}


@pytest.fixture(scope="module")
def segmentor() -> Any:
    return mmseg.MODELS.build({"type": "SegscaleSegmentor"})


@pytest.fixture
def data_sample(tmp_path: Path) -> Any:
    """What the documented test pipeline packs."""
    root = generated(tmp_path / "data", "voc")
    dataset = dict(config_of(root, tmp_path / "work").test_dataloader.dataset)
    return import_mmseg("registry").DATASETS.build(dataset)[0]["data_samples"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_data_sample_that_is_not_the_datasets_is_one_line(fault: str, segmentor: Any, data_sample: Any) -> None:
    damage, message = FAULTS[fault]
    damage(data_sample)
    with pytest.raises(UserError, match=message) as caught:
        segmentor(data_samples=[data_sample], mode="predict")
    assert "\n" not in str(caught.value)


def test_it_only_predicts(segmentor: Any) -> None:
    with pytest.raises(UserError, match=r"nothing is trained; use Runner\.test"):
        segmentor(mode="loss")


def test_the_full_vocabulary_needs_no_label(data_sample: Any) -> None:
    model = mmseg.MODELS.build({"type": "SegscaleSegmentor", "protocol": "standard-full"})
    with_label = model(data_samples=[data_sample], mode="predict")[0].pred_sem_seg.data.clone()
    del data_sample.gt_sem_seg
    (without,) = model(data_samples=[data_sample], mode="predict")
    assert without.pred_sem_seg.data.dtype == torch.int64
    assert torch.equal(without.pred_sem_seg.data, with_label)
