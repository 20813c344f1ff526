"""Resolves names and options into a plan, without loading weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import segscale
from segscale.catalogue import config_files
from segscale.errors import UserError
from segscale.registry import build, load_config

from ...backbones.attention.maps import Recommended
from ...backbones.backbone import Backbone
from ...backbones.loading.pretrained import LoadOptions, weights_fingerprint
from ...datasets.dataset import Dataset
from ...methods.method import Method
from ..tasks.prompts import names_of
from ..tasks.protocol import Protocol
from .identity import Plan, plain


@dataclass(frozen=True)
class RunOptions:
    """Choices of a run beside the four names.

    weights, split, data_root: instead of the configs' own. captions: a caption file. limit: only the first images.
    skip_bad: leave unusable images out and list them. backbone_arguments: instead of the config's. seed: of the
    noise. untrained: random denoiser weights. results: folder that holds ``runs/``.
    """

    weights: str | None = None
    split: str | None = None
    data_root: str | None = None
    captions: Path | None = None
    limit: int | None = None
    skip_bad: bool = False
    backbone_arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    untrained: bool = False
    results: Path = Path("results")
    load: LoadOptions = field(default_factory=LoadOptions)


def build_backbone(
    name: str, load: LoadOptions | None = None, weights: str | None = None, untrained: bool = False, **arguments: Any
) -> Backbone:
    """The loaded backbone; ``weights`` and ``arguments`` replace the config's."""
    overrides: dict[str, Any] = {} if weights is None else {"weights": weights, "denoiser_weights": None}
    return build("backbone", name, load=load or LoadOptions(), untrained=untrained, **overrides, **arguments)


def build_method(name: str, backbone: str, image_size: int | None = None, /, **choices: Any) -> Method:
    """The method with the recommendations and the preset of the backbone's config; ``choices`` win over the preset."""
    arguments = preset(name, backbone) | choices
    if image_size is not None:
        arguments["recommended"] = replace(arguments["recommended"], image_size=image_size)
    return build("method", name, **arguments)


def preset(method: str, backbone: str) -> dict[str, Any]:
    """What the backbone's config adds to the method's own arguments."""
    config = load_config("backbone", backbone)
    return {"recommended": Recommended(**config["recommended"])} | config.get("presets", {}).get(method, {})


def build_methods(names: Sequence[str] | None, backbone: str, protocol: str) -> list[Method]:
    """Methods by name, or all that suit the protocol. Raises UserError for one that it cannot evaluate."""
    rules: Protocol = build("protocol", protocol)
    methods = [build_method(name, backbone) for name in names or config_files("method")]
    fitting = [method for method in methods if method.clusters == (rules.matching is not None)]
    if not names and rules.background_rule != "none":
        # A prompt of class names alone has no word for the background that competes.
        fitting = [method for method in fitting if method.prompt.text != "names"]
    if names and len(fitting) < len(methods):
        wrong = next(method.name for method in methods if method not in fitting)
        kind = "nameless clusters" if rules.matching is None else "classes"
        raise UserError(f"{wrong} gives {kind}, which protocol {protocol} does not evaluate", "see: segscale list")
    return fitting


def build_dataset(name: str, options: RunOptions, rules: Protocol | None = None) -> Dataset:
    """The dataset as ``rules`` want it; a split of the options wins. A caption file replaces its captions."""
    overrides: dict[str, Any] = {} if rules is None else rules.arguments_of(name)
    if options.data_root is not None:
        overrides["data_root"] = options.data_root
    if options.split is not None:
        overrides["split"] = options.split
    if options.captions is not None:
        overrides["captions"] = str(options.captions)
    return build("dataset", name, **overrides)


# Parts of a backbone's config that are in a run's identity by what follows from them, if at all.
DESCRIPTIVE = ("weights", "architecture", "recommended", "presets")


def _backbone_identity(name: str, options: RunOptions) -> dict[str, Any]:
    config = load_config("backbone", name)
    if options.weights is not None:
        config.pop("denoiser_weights", None)
    elif "denoiser_weights" in config:
        part = "unet" if "unet" in config.get("architecture", {}) else "transformer"
        apart = weights_fingerprint(config["denoiser_weights"], None, f"{part}/config.json", options.load.offline)
        config["denoiser_weights"] = apart
    rules = {key: value for key, value in config.items() if key not in DESCRIPTIVE}
    return (
        rules
        | dict(options.backbone_arguments)
        | {
            "name": name,
            "weights": fingerprint(name, options),
            "variant": options.load.variant,
            "dtype": options.load.dtype,
            "text_dtype": options.load.text_dtype or options.load.dtype,
            "quantize": options.load.quantize,
            "untrained": options.untrained,
        }
    )


def fingerprint(backbone: str, options: RunOptions) -> str:
    """Which weights are used, as ``weights_fingerprint`` says it."""
    weights = options.weights or load_config("backbone", backbone)["weights"]
    return weights_fingerprint(weights, options.load.revision, offline=options.load.offline)


def pinned(backbone: str, options: RunOptions) -> LoadOptions:
    """Loading options at the very commit that the run's identity names."""
    weights = options.weights or load_config("backbone", backbone)["weights"]
    repository, at, commit = fingerprint(backbone, options).partition("@")
    return replace(options.load, revision=commit) if at and repository == weights else options.load


def make_plan(backbone: str, method: Method, dataset: Dataset, protocol: Protocol, options: RunOptions) -> Plan:
    """Everything that can change a number of this run."""
    ids = hashlib.sha256("\n".join(dataset.ids).encode()).hexdigest()
    return Plan(
        backbone=plain(_backbone_identity(backbone, options)),
        method=plain(method.parameters),
        dataset={"name": dataset.name, "split": dataset.split, "images": ids} | plain(dataset.choices),
        protocol=plain(protocol.rules | _names_and_order(protocol, dataset)),
        seed=options.seed,
        version=segscale.__version__,
    )


def _names_and_order(protocol: Protocol, dataset: Dataset) -> dict[str, Any]:
    """What the protocol's tables say of this dataset."""
    names = hashlib.sha256(json.dumps(names_of(protocol, dataset)).encode()).hexdigest()
    return {"class_names": names, "label_order": protocol.label_orders.get(dataset.name)}


def run_folder(results: Path, plan: Plan) -> Path:
    return results / "runs" / plan.backbone["name"] / plan.method["name"] / plan.dataset["name"] / plan.identity
