"""Builds a backbone from its config, with its weights or as shapes alone."""

from __future__ import annotations

from typing import Literal

from segscale.registry import BACKBONES, build, load_config

from .backbone import Backbone
from .loading.options import LoadOptions


def build_backbone(
    backbone_name: str,
    load: LoadOptions | None = None,
    weights: str | None = None,
    untrained: bool = False,
    **arguments: object,
) -> Backbone:
    """Load a backbone; ``weights`` (a hub id or a folder) and ``arguments`` replace the config's."""
    overrides: dict[str, object] = {"load": load or LoadOptions(), "untrained": untrained, **arguments}
    if weights is not None:
        overrides |= {"weights": weights, "denoiser_weights": None}
    return build("backbone", backbone_name, **overrides)


def draws_masks(backbone_name: str) -> bool:
    """Whether a backbone was taught to draw masks beside clean pictures; no weights are needed to say so."""
    kind = BACKBONES.get(load_config("backbone", backbone_name, imports=True)["type"])
    return kind is not None and kind.draws_masks


def build_shape_only(backbone_name: str) -> Backbone:
    """Build a backbone as its config states it, to ask about its sites before any weights are fetched."""
    return build_backbone(backbone_name, LoadOptions(source=weights_source(backbone_name, "meta")))


def weights_source(backbone_name: str, instead: Literal["random", "meta"]) -> Literal["pretrained", "random", "meta"]:
    """Return ``instead`` where the config states an architecture, which needs no weights to be built."""
    return instead if "architecture" in load_config("backbone", backbone_name) else "pretrained"
