"""Resolves names and options into a plan, without loading weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import segscale
from segscale.catalogue import PACKAGED, config_files
from segscale.errors import UserError
from segscale.registry import FOR_METHODS, FOR_SAMPLING, backbone_class, build, load_config

from ...backbones.backbone import Backbone
from ...backbones.build import build_backbone, draws_masks
from ...backbones.loading.lora import lora_id, lora_training
from ...backbones.loading.weights_id import WeightsId, weights_id
from ...backbones.text.cache import TextCache
from ...datasets.dataset import Dataset, check_dataset
from ...methods.build import build_method
from ...methods.method import Method
from ..tasks.identity import plain_data
from ..tasks.protocol import Protocol
from ..tasks.task import Task
from .conditions import machine
from .identity import BackboneIdentity, MethodIdentity, RunPlan
from .options import RunOptions
from .record import Sources, StoredRun

log = logging.getLogger(__name__)

NOT_IN_IDENTITY = ("weights", "architecture", *FOR_METHODS, FOR_SAMPLING)
"""Parts of a backbone's config that are in a run's identity by what follows from them, if at all."""


@dataclass(frozen=True)
class BackbonePlan:
    """A backbone before its weights are loaded: which it is, and how to load exactly that."""

    identity: BackboneIdentity
    weights_id: WeightsId
    options: RunOptions

    def load(self, **arguments: object) -> Backbone:
        """Load the weights that the identity names; ``arguments`` take the place of those of its config."""
        options = self.options
        load = self.weights_id.load_options_at_commit(options.load)
        arguments = {**options.backbone_arguments, **arguments}
        backbone = build_backbone(self.identity.name, load, options.weights, options.untrained, **arguments)
        if options.text_cache is not None:
            backbone.prompts.cache = TextCache(options.text_cache, self._encoders(arguments))
        return backbone

    def _encoders(self, arguments: Mapping[str, object]) -> str:
        """All that decides what a prompt is encoded to, but for rounding that batch, threads and device decide."""
        own = self.identity.options | plain_data(arguments)
        identity = asdict(replace(self.identity, untrained=False, lora=None, options=own))
        packages = {name: version(name) for name in ("torch", "transformers", "diffusers")}
        return json.dumps([identity, packages, segscale.__version__], sort_keys=True)


def plan_backbone(backbone_name: str, options: RunOptions) -> BackbonePlan:
    """Say which weights would be loaded. Raises UserError where they are missing."""
    config = load_config("backbone", backbone_name)
    weights = options.weights or config["weights"]
    found = weights_id(weights, options.load)
    if options.weights is not None:
        config.pop("denoiser_weights", None)
    elif "denoiser_weights" in config:
        part = backbone_class(backbone_name).denoiser_part
        apart = replace(options.load, revision=None)
        config["denoiser_weights"] = weights_id(config["denoiser_weights"], apart, f"{part}/config.json").text
    arguments = {key: value for key, value in config.items() if key not in NOT_IN_IDENTITY}
    if options.load.lora is not None and arguments.get("training", "none") == "none":
        arguments["training"] = lora_training(options.load.lora)
    identity = BackboneIdentity(
        name=backbone_name,
        weights=found.text,
        dtype=options.load.dtype,
        text_dtype=options.load.text_dtype or options.load.dtype,
        variant=options.load.variant,
        quantize=options.load.quantize,
        lora=lora_id(options.load),
        untrained=options.untrained,
        packaged=weights.startswith(PACKAGED),
        options=plain_data(arguments | dict(options.backbone_arguments)),
    )
    return BackbonePlan(identity, found, options)


def build_task(dataset_name: str, protocol: Protocol, options: RunOptions) -> Task:
    """The protocol on the dataset as it wants it; a split of the options wins. A caption file replaces its captions."""
    benchmark = load_config("dataset", dataset_name).get("benchmark", dataset_name)
    arguments = protocol.dataset_arguments(benchmark) | options.dataset_arguments
    dataset = build("dataset", dataset_name, **arguments)
    check_dataset(dataset)
    if gaps := str(dataset.caption_gaps or ""):
        log.warning("captions of %s %s: %s", dataset.name, dataset.split, gaps)
    _warn_of_part(dataset)
    return Task.of(protocol, dataset)


def _warn_of_part(dataset: Dataset) -> None:
    expected = dataset.expected_images
    if expected and len(dataset) not in expected:
        official = " or ".join(map(str, expected))
        what = f"{dataset.name} {dataset.split} has {len(dataset)} images here, not the {official} of the whole split"
        log.warning("%s; see what is missing: %s", what, dataset.check_command)


def build_methods(names: Sequence[str] | None, backbone_name: str, protocol: Protocol) -> list[Method]:
    """Methods by name, or all that suit the protocol. Raises UserError for one that it cannot evaluate."""
    methods = [build_method(name, backbone_name) for name in names or config_files("method")]
    fitting = [method for method in methods if method.unnamed_masks == (protocol.matching is not None)]
    if not names and protocol.background_rule != "none":
        # A prompt of class names alone has no word for the background that competes.
        fitting = [method for method in fitting if method.prompt_rule.text != "names"]
    if not draws_masks(backbone_name):
        fitting = [method for method in fitting if method.settings.drawn != "mask"]
    if names and len(fitting) < len(methods):
        unfit = next(method.name for method in methods if method not in fitting)
        if any(method.name == unfit and method.settings.drawn == "mask" for method in methods):
            raise UserError(f"{unfit} reads masks that {backbone_name} was not taught to draw", "see: segscale list")
        kind = "nameless masks" if protocol.matching is None else "classes"
        raise UserError(f"{unfit} gives {kind}, which protocol {protocol.name} does not evaluate", "see: segscale list")
    return fitting


def make_plan(backbone: BackboneIdentity, method: Method, task: Task, seed: int) -> RunPlan:
    """Everything that can change a number of this run."""
    identity = MethodIdentity(
        name=method.name,
        variant=method.variant,
        normalised=method.normalised,
        attention=getattr(method, "attention", None),
        parameters=plain_data(asdict(method)),
    )
    return RunPlan(backbone, identity, task.identity, seed, segscale.__version__)


def run_folder(results: Path, plan: RunPlan) -> Path:
    """Where a run is stored."""
    names = (plan.backbone.name, plan.method.name, plan.task.dataset.name)
    return results.joinpath("runs", *names, plan.run_id)


def new_run(plan: RunPlan, task: Task, options: RunOptions, wanted: int) -> StoredRun:
    """A run of so many images before the first one."""
    return StoredRun(
        run_id=plan.run_id,
        plan=plan,
        table_rules=task.table_rules,
        classes=task.class_names,
        background_id=task.background_id,
        split_images=len(task.dataset),
        captions=task.dataset.caption_gaps,
        machine=machine(),
        wanted=wanted,
        sources=Sources.of(options),
    )
