"""Real architectures without weights, each built once; a test that changes one builds its own."""

from __future__ import annotations

from functools import cache

from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_shape_only


@cache
def shape_only(name: str) -> Backbone:
    return build_shape_only(name)
