"""Builds a backbone from its config, with its weights or as shapes alone."""

from __future__ import annotations

from typing import Any, Literal

from segscale.registry import BACKBONES, load_config

from .backbone import Backbone
from .loading.pretrained import LoadOptions

# Keys of a backbone's config that are read for methods, see ``methods.build``.
FOR_METHODS = ("method_defaults", "presets")


def build_backbone(
    backbone_name: str,
    load: LoadOptions | None = None,
    weights: str | None = None,
    untrained: bool = False,
    **arguments: Any,
) -> Backbone:
    """Load a backbone; ``weights`` (a hub id or a folder) and ``arguments`` replace the config's."""
    config = load_config("backbone", backbone_name, imports=True)
    own = {key: value for key, value in config.items() if key not in FOR_METHODS}
    own |= {"name": backbone_name, "load": load, "untrained": untrained, "_scope_": BACKBONES.scope}
    if weights is not None:
        own |= {"weights": weights, "denoiser_weights": None}
    return BACKBONES.build(own | arguments)


def build_shape_only(backbone_name: str) -> Backbone:
    """Build a backbone as its config states it, to ask about its sites before any weights are fetched."""
    return build_backbone(backbone_name, LoadOptions(source=weights_source(backbone_name, "meta")))


def weights_source(backbone_name: str, instead: Literal["random", "meta"]) -> Literal["pretrained", "random", "meta"]:
    """Return ``instead`` where the config states an architecture, which needs no weights to be built."""
    return instead if "architecture" in load_config("backbone", backbone_name) else "pretrained"
