"""Invented datasets whose true mIoU is known, to measure what intervals cover.

A population is a large pool of images; samples are drawn from it independently and with replacement, so that the mIoU
of the whole pool is exactly what a sample estimates. Labels have the class frequencies of published datasets, areas
are log-normal, and runs miss, confuse and invent classes. Nothing here is measured on a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ..evaluation.metrics import Floats

PIXELS = 250_000
POOL = 10_000
THRESHOLDS = (-0.4, -0.2, 0.0, 0.2, 0.4)
# Index of the threshold at which single numbers and differences are taken.
FIXED = 2

# Shares of validation images that label each class: ADE20K's as published (objectInfo150.txt), the others roughly. The
# first class of VOC is background.
VOC = np.array([1449, 90, 79, 103, 72, 96, 74, 127, 119, 123, 71, 75, 128, 79, 76, 445, 85, 57, 90, 84, 74]) / 1449
CITYSCAPES = np.array([99, 94, 98, 38, 40, 99, 53, 94, 97, 55, 90, 79, 50, 95, 17, 18, 7, 20, 66]) / 100
# fmt: off
ADE = np.array([
    1172, 917, 796, 796, 643, 641, 612, 526, 460, 441, 411, 408, 318, 315, 310, 306, 302, 298, 294, 269, 239, 225, 224,
    217, 199, 190, 184, 162, 162, 160, 153, 139, 138, 138, 128, 122, 122, 114, 113, 109, 108, 106, 104, 102, 100, 99,
    98, 96, 83, 77, 75, 75, 75, 73, 72, 69, 66, 65, 64, 61, 61, 60, 59, 57, 57, 57, 56, 56, 56, 55, 53, 52, 50, 49, 49,
    49, 46, 44, 44, 44, 43, 43, 43, 39, 38, 38, 37, 37, 36, 36, 36, 35, 33, 31, 31, 31, 31, 30, 30, 30, 29, 29, 28, 27,
    27, 27, 26, 25, 25, 24, 23, 23, 22, 22, 22, 21, 20, 19, 18, 18, 18, 18, 17, 14, 13, 13, 12, 12, 12, 12, 12, 11, 9,
    9, 9, 9, 8, 8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 3, 3,
]) / 2000
# fmt: on
# Objects of COCO by rank, roughly: person in half of the images, few others in a tenth, the last in one of 500.
COCO = np.exp(np.interp(np.arange(1, 81), [1, 2, 10, 40, 70, 80], np.log([0.54, 0.116, 0.047, 0.027, 0.014, 0.002])))


@dataclass(frozen=True)
class Population:
    """What labels and predictions of an invented dataset are drawn from."""

    name: str
    frequencies: Floats
    """Share of images that label each class."""
    background: bool
    """Class 0 is in every image and takes the pixels that a threshold rejects; otherwise no class takes them."""
    false_classes: float
    """Classes per image that a run with the full vocabulary sees though they are absent."""


POPULATIONS = MappingProxyType(
    {
        population.name: population
        for population in (
            Population("voc", VOC, True, 2.0),
            Population("cityscapes", CITYSCAPES, False, 3.0),
            Population("coco", np.append(1.0, COCO), True, 4.0),
            Population("ade", ADE, False, 8.0),
        )
    }
)


@dataclass(frozen=True)
class Sweep:
    """Areas of a run on every image of the pool, int32 ``(images, thresholds, classes)``."""

    intersection: NDArray[np.int32]
    predicted: NDArray[np.int32]


@dataclass(frozen=True)
class Pool:
    """All images of a population and the runs on them."""

    label: NDArray[np.int32]
    """``(images, classes)``."""
    runs: dict[str, Sweep]
    """``known`` and ``full`` vocabulary; ``known-other`` and ``full-other`` of a better backbone, which sees more false
    classes."""


def draw_pool(population: Population, seed: int, images: int = POOL) -> Pool:
    """The pool of ``population``; another seed draws other classes (sizes, difficulty, confusions) as well."""
    rng = np.random.default_rng([seed, *population.name.encode()])
    label = _labels(population, rng, images)
    quality = _quality(population, rng)
    difficulty = rng.normal(0, 0.6, (images, 1)) + rng.normal(0, 0.7, label.shape)
    runs: dict[str, Sweep] = {}
    for vocabulary, false_classes, penalty in (("known", 0.0, 0.0), ("full", population.false_classes, 0.5)):
        for suffix, gain, more in (("", 0.0, 1.0), ("-other", 0.3, 2.5)):
            logits = quality + difficulty + gain - penalty + rng.normal(0, 0.6, label.shape)
            rivals = _rivals(label, more * false_classes, rng)
            areas = [_at_threshold(population, label, logits, rivals, threshold) for threshold in THRESHOLDS]
            runs[vocabulary + suffix] = Sweep(*(np.stack(part, 1) for part in zip(*areas, strict=True)))
    return Pool(label, runs)


def _labels(population: Population, rng: np.random.Generator, images: int) -> NDArray[np.int32]:
    """Areas of present classes; objects vary more in size than what is nearly everywhere (measured on CamVid)."""
    frequency = population.frequencies
    present = rng.random((images, len(frequency))) < frequency
    present[~present.any(1), np.argmax(frequency)] = True
    size = rng.normal(0, 0.8, len(frequency)) + 0.35 * np.log(frequency)
    if population.background:
        size[0] = size[1:].max() + 1
    spread = 0.6 + np.minimum(1, -0.3 * np.log(frequency))
    weight = np.where(present, np.exp(size + spread * rng.normal(size=present.shape)), 0)
    labelled = PIXELS * rng.beta(30, 2, (images, 1))
    return np.where(present, np.maximum(1, labelled * weight / weight.sum(1, keepdims=True)), 0).astype(np.int32)


def _quality(population: Population, rng: np.random.Generator) -> Floats:
    """Logit of the recall of each class; rare classes are harder."""
    frequency = population.frequencies
    return 0.3 + 0.25 * np.log(frequency / frequency.mean()) + rng.normal(0, 0.7, len(frequency))


def _rivals(label: NDArray[np.int32], false_classes: float, rng: np.random.Generator) -> Floats:
    """Weight with which each class takes the pixels that others lose: present classes, and some absent ones."""
    weight = np.where(label > 0, 0.3 * label / PIXELS + 0.1 * rng.lognormal(0, 1, label.shape), 0)
    leaning = rng.lognormal(0, 1.2, label.shape[1])
    chance = np.minimum(0.9, false_classes / label.shape[1] * leaning / np.exp(0.72))
    absent = (rng.random(label.shape) < chance) & (label == 0)
    return weight + np.where(absent, 0.15 * rng.lognormal(0, 1, label.shape), 0)


def _at_threshold(
    population: Population, label: NDArray[np.int32], logits: Floats, rivals: Floats, threshold: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Intersection and predicted area; a higher threshold rejects right pixels, and even more wrong ones."""
    recall = expit(logits) * expit(-4 * (threshold - 0.6))
    wrong = np.full(label.shape[1], expit(-3 * threshold))
    if population.background:
        recall[:, 0] = 1 - (1 - expit(logits[:, 0])) * wrong[0]
        wrong[0] = 1
    right = np.floor(label * recall)
    lost = label - right
    others = rivals.sum(1, keepdims=True) - rivals
    share = np.divide(lost * wrong, others, out=np.zeros_like(lost), where=others > 1e-9)
    predicted = right + rivals * (share.sum(1, keepdims=True) - share)
    if population.background:
        predicted[:, 0] += (lost * (1 - wrong)).sum(1)
    return right.astype(np.int32), predicted.astype(np.int32)
