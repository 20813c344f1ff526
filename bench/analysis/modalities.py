"""Analyses of joint attention over a dataset: measures of every block, averaged over images (arXiv 2509.18096)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from segscale.errors import UserError
from segscale.prompt import Prompt
from segscale.registry import build

from ...backbones.attention.maps import CaptureSettings, Timestep
from ...backbones.attention.modalities import observe_modalities
from ...backbones.backbone import Backbone
from ...backbones.latents.noise import image_generator
from ...datasets.dataset import Dataset, Sample
from ...methods.method import PromptRule
from ..evaluation.metrics import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, INTERVAL
from ..runs.plan import RunOptions, build_backbone, build_dataset, fingerprint, pinned
from ..tasks.prompts import image_prompt, names_of
from ..tasks.protocol import Protocol

SITE = ["layer", "site"]


@dataclass(frozen=True)
class Analysis:
    """What one command shows of ``Modalities``.

    name: of its files. panels: of its figure: title -> field -> label. axis: what the numbers are, after
    multiplication by ``scale``; digits: decimals in print.
    """

    name: str
    panels: Mapping[str, Mapping[str, str]]
    axis: str
    scale: float
    digits: int

    @property
    def labels(self) -> dict[str, str]:
        return {field: label for panel in self.panels.values() for field, label in panel.items()}


SHARES = Analysis(
    "modalities",
    {
        "image queries": {"i2i": "I2I", "i2t": "I2T", "i2t_words": "I2T words", "i2t_special": "I2T special"},
        "text queries": {"t2i": "T2I", "t2t": "T2T"},
    },
    "share of attention (%)",
    scale=100,
    digits=1,
)
VALUES = Analysis(
    "values",
    {"value norms": {"image_value_norm": "image", "text_value_norm": "text"}},
    "norm of a head's value",
    scale=1,
    digits=2,
)
ANALYSES = {one.name: one for one in (SHARES, VALUES)}


def averages_on(
    analysis: Analysis, backbone: str, dataset: str, protocol: str, options: RunOptions, timestep: float | None = None
) -> pd.DataFrame:
    """Averages of ``analysis`` at every joint block, with what they were measured on; one row per block and measure.

    timestep: ``t`` in 0..1000 instead of the recommended one. Images without any class are left out.
    """
    rules: Protocol = build("protocol", protocol)
    data = build_dataset(dataset, options, rules)
    rules = rules.resolved(data)
    model = build_backbone(backbone, pinned(backbone, options), options.weights, options.untrained)
    recommended = model.recommended
    t = recommended.timestep if timestep is None else timestep
    settings = CaptureSettings(recommended.image_size, Timestep(t=t))
    indices = range(len(data))[: options.limit]
    rows = measure(model, data, indices, partial(_prompt_of, rules, data), settings, options.seed)
    facts = {
        "backbone": backbone,
        "weights": fingerprint(backbone, options),
        "dtype": options.load.dtype,
        "dataset": data.name,
        "split": data.split,
        "protocol": protocol,
        "images": rows["image"].nunique(),
        "image_size": settings.image_size,
        "timestep": t,
        "seed": options.seed,
    }
    table = averages(rows, list(analysis.labels))
    return pd.concat([pd.DataFrame(facts, index=table.index), table], axis=1)


def measure(
    model: Backbone,
    data: Dataset,
    indices: Sequence[int],
    prompt_of: Callable[[Sample], Prompt | None],
    settings: CaptureSettings,
    seed: int,
) -> pd.DataFrame:
    """All fields of ``Modalities``, one row per image and joint block; one forward per image.

    prompt_of: None for an image to leave out. Raises UserError where no image is left.
    """
    layers = {site.name: site.layer for site in model.sites(settings.image_size)}
    rows: list[dict[str, str | int | float]] = []
    for index in tqdm(indices, desc=f"{model.name} on {data.name}", unit="image"):
        sample = data[index]
        prompt = prompt_of(sample)
        if prompt is None:
            continue
        noised, level = model.noised(sample.image, settings, image_generator(seed, data.name, sample.id))
        blocks = observe_modalities(model, noised, level, prompt, settings.image_size)
        rows += [
            {"image": sample.id, "layer": layers[site], "site": site, **asdict(block)} for site, block in blocks.items()
        ]
    if not rows:
        raise UserError(f"none of {len(indices)} images of {data.name} shows a class", "take more with --limit")
    return pd.DataFrame(rows)


def averages(rows: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """Mean over images and its 95 % bootstrap interval, per block and measure, blocks in execution order.

    rows: as of ``measure``. Returns columns layer, site, measure, mean, low, high. Independent of the images' order.
    """
    wide = rows.pivot(index="image", columns=SITE, values=list(fields)).sort_index()
    values = wide.to_numpy(np.float64)
    images = len(values)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=BOOTSTRAP_SAMPLES)
    low, high = np.percentile(draws @ values / images, INTERVAL, axis=0)
    keys = pd.DataFrame(list(wide.columns), columns=["measure", *SITE])
    table = keys[[*SITE, "measure"]].assign(mean=values.mean(0), low=low, high=high)
    return table.sort_values("layer", kind="stable", ignore_index=True)


def printable(table: pd.DataFrame, analysis: Analysis) -> str:
    """One line per block, mean and interval per measure."""
    text = [
        "{1:.{0}f} [{2:.{0}f}, {3:.{0}f}]".format(analysis.digits, *(analysis.scale * number for number in row))
        for row in table[["mean", "low", "high"]].to_numpy()
    ]
    wide = table.assign(text=text).pivot(index=SITE, columns="measure", values="text")
    lines = wide[list(analysis.labels)].reset_index()
    titles = [*SITE, *analysis.labels.values()]
    header = "{backbone} on {dataset} {split}, {images} images, timestep {timestep:g}".format(**table.iloc[0])
    return f"{header}: {analysis.axis}\n{tabulate(lines, titles, tablefmt='simple', showindex=False)}"


def _prompt_of(rules: Protocol, data: Dataset, sample: Sample) -> Prompt | None:
    class_ids = rules.present_classes(sample, data)
    asked = image_prompt(rules, PromptRule(), sample.caption, names_of(rules, data), class_ids)
    return asked.prompt if class_ids else None
