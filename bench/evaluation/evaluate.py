"""Areas of one image's scores under a protocol."""

from __future__ import annotations

from ...datasets.dataset import Dataset, Sample
from ...methods.method import ClassScores
from ..tasks.protocol import Protocol
from .clusters import cluster_areas
from .pixel_counts import Areas, threshold_areas


def evaluate(
    scores: ClassScores, class_ids: tuple[int, ...], sample: Sample, rules: Protocol, dataset: Dataset
) -> Areas:
    """Areas at every threshold of ``rules``, which must be resolved for ``dataset``.

    class_ids: of the maps of ``scores``; not used where the maps are clusters without names.
    """
    if rules.matching is None or rules.evaluated_edges is None:
        truth = rules.truth(sample.label, dataset)
        return threshold_areas(scores, class_ids, rules.decision(dataset), truth, rules.unscored(dataset))
    order = rules.label_orders.get(dataset.name, range(len(dataset.classes)))
    return cluster_areas(
        scores.classes,
        sample.label,
        len(dataset.classes),
        order,
        rules.matching,
        rules.evaluated_edges,
        rules.cropped,
    )
