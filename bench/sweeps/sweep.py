"""A sweep: products of names and seeds, and the jobs that they come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from segscale.arguments import check_arguments, check_complete
from segscale.catalogue import Kind, config_file
from segscale.errors import ConfigError
from segscale.registry import SWEEPS

KINDS: tuple[tuple[str, Kind], ...] = (
    ("backbones", "backbone"),
    ("methods", "method"),
    ("datasets", "dataset"),
    ("protocols", "protocol"),
)
"""Fields of a product, and what their names are names of."""


@dataclass(frozen=True)
class Product:
    """Names and seeds, every combination of which is a cell."""

    backbones: tuple[str, ...]
    datasets: tuple[str, ...]
    protocols: tuple[str, ...]
    methods: tuple[str, ...] | None = None
    """None: all that suit the protocol."""
    seeds: tuple[int, ...] = (0,)

    def only(self, **chosen: tuple[str | int, ...] | None) -> Product:
        """The part with names that were chosen, by field; None chooses all."""
        kept = {
            field: names if (own := getattr(self, field)) is None else tuple(name for name in own if name in names)
            for field, names in chosen.items()
            if names is not None
        }
        return replace(self, **kept)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Job:
    """What one process evaluates: methods that share a backbone, the images and a seed, so that forwards are shared."""

    backbone_name: str
    dataset_name: str
    protocol_name: str
    seed: int
    method_names: tuple[str, ...] | None
    """None: all that suit the protocol."""

    @property
    def key(self) -> str:
        """Names it within its sweep, and its files."""
        return f"{self.backbone_name}-{self.dataset_name}-{self.protocol_name}-seed{self.seed}"

    @property
    def label(self) -> str:
        """Names it in a sentence."""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.backbone_name} on {self.dataset_name} ({self.protocol_name}{seed})"


@SWEEPS.register_module()
class Sweep:
    """Products of names, as a config in ``configs/sweeps/`` states them."""

    def __init__(self, *, name: str, products: tuple[Mapping[str, tuple[str | int, ...]], ...]) -> None:
        """Check the names.

        Args:
            name: Of the config.
            products: Fields of ``Product``, each a tuple of names or seeds.

        Raises:
            ConfigError: A product lacks a field or has another one; UnknownNameError for a name without config.
        """
        self.name = name
        if not products:
            raise ConfigError(f"sweep {name} has no products", "give one, as configs/sweeps/papers.py does")
        for place, fields in enumerate(products):
            where = f"sweep {name}, products[{place}]"
            check_arguments(where, Product, fields)
            check_complete(where, Product, fields)
        self.products = tuple(Product(**fields) for fields in products)  # pyright: ignore[reportArgumentType]
        for each in self.products:
            _check_names(each)


def jobs_of(products: Sequence[Product]) -> tuple[Job, ...]:
    """Every cell in one job, those that can share forwards in the same; in the order of the products."""
    jobs: dict[str, Job] = {}
    for job in _each_job(products):
        known = jobs.setdefault(job.key, job)
        jobs[job.key] = replace(known, method_names=_union(known.method_names, job.method_names))
    return tuple(jobs.values())


def _each_job(products: Sequence[Product]) -> Iterator[Job]:
    for each in products:
        if each.methods == ():  # none of its own was chosen
            continue
        for names in product(each.backbones, each.datasets, each.protocols, each.seeds):
            yield Job(*names, each.methods)


def _union(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The methods of both; all that suit include every other."""
    return None if first is None or second is None else tuple(dict.fromkeys((*first, *second)))


def _check_names(names: Product) -> None:
    for field, kind in KINDS:
        for name in getattr(names, field) or ():
            config_file(kind, name)
