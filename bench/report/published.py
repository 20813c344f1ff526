"""Published numbers beside stored runs of the same backbone, method, dataset and protocol."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from segscale.errors import UserError

from .tables import NOT_TAUGHT

COLUMNS = ("paper", "arxiv", "method", "backbone", "training", "dataset", "protocol", "miou")
SAME = ("backbone", "method", "dataset", "split", "protocol")
"""What a run must share with a published number to stand beside it."""
NOTE = "Published numbers are copied from the papers and were not measured here."
NOTHING_NOTE = "No stored run has a published counterpart."

# By the paper: what its names mean here.
PROTOCOL_OF_EVALUATION = {"goca": "goca", "ovss": "seg4diff", "unsupervised": "seg4diff-unsupervised"}
SPLIT_OF_DATASET = {("goca", "voc"): "train", ("goca", "context60"): "segmentation-train"}
"""By protocol and dataset; all others are of ``val``."""
BACKBONE_OF_PAPER_NAME = {
    "GoCA": {"SD v1.5": "sd15", "SDXL": "sdxl", "PixArt-Sigma": "pixart-sigma", "Flux": "flux"},
    "Seg4Diff": {"SD3": "sd3", "SD3.5": "sd35", "Flux.1-dev": "flux-seg4diff"},
}
METHOD_OF_PAPER_NAME = {
    "goca": {
        "Vanilla": "vanilla",
        "Baseline": "baseline",
        "GoCA": "goca",
        "Heads alone": "goca-heads",
        "Layers alone": "goca-layers",
        "Rescaling alone": "goca-rescale",
    },
    "seg4diff": {"Seg4Diff": "seg4diff"},
    "seg4diff-unsupervised": {"Seg4Diff": "seg4diff-masks"},
}
DATASET_OF_PAPER_NAME = {
    "goca": {
        "VOC": "voc",
        "Context": "context60",
        "COCO-Object": "coco-object",
        "Cityscapes": "cityscapes",
        "ADE20K": "ade20k",
    },
    "seg4diff": {
        "VOC20": "voc",
        "PC59": "context59",
        "COCO-Object": "coco-object",
        "Cityscapes": "cityscapes",
        "ADE20K": "ade20k",
    },
    "seg4diff-unsupervised": {
        "VOC21": "voc",
        "PC59": "context60",
        "COCO-Object": "coco-object",
        "COCO-Stuff-27": "coco-stuff-27",
        "Cityscapes": "cityscapes",
        "ADE20K": "ade20k",
    },
}


def read_published(path: Path) -> pd.DataFrame:
    """The table of facts: ``COLUMNS``, in the papers' own names; mIoU in percent. Empty cells were not given."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).astype({"miou": float})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"there are no published numbers in {path}", "name their file: --paper FILE") from error
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} does not have the columns {', '.join(COLUMNS)}", "name another: --paper FILE")
    return table


def comparable(published: pd.DataFrame) -> pd.DataFrame:
    """Rows that a run here can be set beside, with the columns of ``SAME`` by our names.

    What was trained on masks or has no counterpart here is left out.
    """
    rows = []
    for row in published.to_dict("records"):
        protocol = PROTOCOL_OF_EVALUATION.get(row["protocol"], "")
        names = {
            "backbone": BACKBONE_OF_PAPER_NAME.get(row["paper"], {}).get(row["backbone"]),
            "method": METHOD_OF_PAPER_NAME.get(protocol, {}).get(row["method"]),
            "dataset": DATASET_OF_PAPER_NAME.get(protocol, {}).get(row["dataset"]),
            "protocol": protocol,
        }
        if row["training"] == NOT_TAUGHT and all(names.values()):
            split = SPLIT_OF_DATASET.get((protocol, str(names["dataset"])), "val")
            rows.append({"arxiv": row["arxiv"], "published": row["miou"], **names, "split": split})
    return pd.DataFrame(rows, columns=["arxiv", "published", *SAME])


def beside_published(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The long table with ``published``, ``arxiv`` and ``difference`` (in points), empty where nothing is published."""
    both = table.merge(comparable(published), how="left", on=list(SAME))
    return both.assign(difference=both["miou"] - both["published"])
