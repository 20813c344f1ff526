"""The vendored cases of GoCA's published code, and attention maps made from their tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from segscale.backbones.attention.layer_similarity import SimilarityStream
from segscale.backbones.attention.maps import AttentionMaps
from segscale.backbones.attention.rules import HeadWeighting
from segscale.backbones.attention.sites import Grid, Site
from segscale.backbones.text.tokens import StreamTokens
from segscale.methods.goca import GoCA

FOLDER = Path(__file__).resolve().parents[1] / "parity" / "goca"

HEADS = {
    "average": "average",
    "l2-norm": "l2-norm",
    "cosine": "cosine",
    "dot-product": "dot-product-clamped",
    "dot-product w/o clamp": "dot-product",
    "cosine + VW": "cosine-value-norm",
    "dot-product + VW": "dot-product-value-norm",
}
LAYERS = {"dot-product similarity": "dot-product", "mse": "mse", "iou-like": "iou-like", "vanilla": "uniform"}
RESCALINGS = {
    "raw": "raw",
    "per-token renorm": "maximum",
    "per-token renorm+": "min-max",
    "sum-1 rescaling": "share",
    "sum-1 rescaling + per-token renorm": "share+maximum",
    "sum-1 rescaling + per-token renorm+": "share+min-max",
    "sum-1 rescaling + per-token renorm x raw": "share+maximum x raw",
    "sum-1 rescaling + per-token renorm+ x raw": "share+min-max x raw",
    "sum-1 rescaling + per-token renorm+ x raw + renorm": "share+min-max x raw+min-max",
}


def facts(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def stream(count: int, prompt: dict[str, Any]) -> tuple[StreamTokens, ...]:
    """Token columns of a case's prompt, classes in their own order."""
    classes = tuple(tuple(prompt["objects"][str(i)]) for i in prompt["present_objects_order"])
    background = tuple(map(tuple, prompt["background_objects"]))
    return (StreamTokens("clip", 0, count, classes, background, (), ()),)


@dataclass(frozen=True)
class Inputs:
    """One case's synthetic tensors."""

    name: str

    @property
    def tensors(self) -> dict[str, Tensor]:
        return tensors(f"method-{self.name}.inputs")

    @property
    def layers(self) -> list[dict[str, Any]]:
        return facts(f"method-{self.name}.inputs")["layers"]

    @property
    def sites(self) -> dict[str, Site]:
        return {
            layer["site"]: Site(layer["site"], i, layer["heads"], Grid(layer["grid"], layer["grid"]), "cross", "self")
            for i, layer in enumerate(self.layers)
        }

    def self_map(self, site: str) -> Tensor:
        """``(heads, pixels, pixels)``."""
        stored, key = self.tensors, f"layer/{site}"
        if f"{key}/self_map" in stored:
            return stored[f"{key}/self_map"]
        query, keys = stored[f"{key}/self_q"], stored[f"{key}/self_k"]
        return (query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)

    def head_weights(self, site: str, rule: HeadWeighting | None) -> Tensor:
        """``(heads, pixels)``; the mean where the case has no values (single-stream blocks)."""
        stored, key = self.tensors, f"layer/{site}"
        cross = stored[f"{key}/cross_map"]
        if rule is None or f"{key}/out_weight" not in stored:
            return cross.new_full(cross.shape[:2], 1 / len(cross))
        outputs = stored[f"{key}/post_value"].unflatten(1, (len(cross), -1)).transpose(0, 1)
        return rule.bind(stored[f"{key}/out_weight"], stored[f"{key}/value"])(outputs)

    def maps(self, method: GoCA, prompt: dict[str, Any], count: int = 12) -> AttentionMaps:
        """What a capture would have given ``method``."""
        stored, sites = self.tensors, self.sites
        request = method.request([*sites.values()])
        maps = AttentionMaps(sites, stream(count, prompt))
        similarities = SimilarityStream(request.similar)
        for site in sites.values():
            cross = stored[f"layer/{site.name}/cross_map"]
            if site.name in request.text:
                maps.text[site.name] = cross.mean(0)
            if site.name in request.pixels:
                maps.pixels[site.name] = self.self_map(site.name).mean(0)
            similarities.add(site, self.self_map(site.name).mean(0))
        for site, rule in request.weighted:
            weights = self.head_weights(site, rule)
            maps.weighted[site, rule] = (weights[..., None] * stored[f"layer/{site}/cross_map"]).sum(0)
        feature = stored["ref/feature"]
        for _, measure in request.similar:
            reference = sites[measure.reference_site]
            similarities.add_feature(reference, feature.flatten(1).T)
            break
        maps.similarity.update(similarities.values)
        return maps


def method(settings: dict[str, Any], side: int, reference: str, **choices: Any) -> GoCA:
    """GoCA with the settings of a case; affinity is off unless chosen."""
    fields = {
        "name": "goca",
        "image_size": 1,
        "timestep": 100,
        "feature_size": side,
        "affinity_sites": (),
        "affinity_order": 0,
        "reference_site": reference,
        "heads": HEADS[settings["head_method"]],
        "layers": LAYERS[settings["layer_method"]],
        "rescaling": RESCALINGS[settings["rescale_method"]],
    }
    return GoCA(**fields | choices)


def reference_site(ref_layer: str) -> str:
    return ref_layer.removesuffix("-cross-q").removesuffix("-attn-out")
