"""What holds for every method on every backbone that can be loaded here."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from PIL import Image

from segscale.backbones.backbone import Backbone
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.loading.pretrained import PACKAGED
from segscale.bench.runs.plan import build_methods
from segscale.catalogue import config_files
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt, one_thing_prompt
from segscale.errors import UserError
from segscale.methods.build import build_method
from segscale.prompt import Prompt
from segscale.registry import build, load_config

LOADABLE = [name for name in config_files("backbone") if load_config("backbone", name)["weights"].startswith(PACKAGED)]
# Of rules that do not ask for all classes together.
PROMPTS = {"empty": Prompt("", ()), "each": one_thing_prompt("star")}
every_method = pytest.mark.parametrize("method_name", config_files("method"))


@pytest.fixture(scope="module")
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return build_backbone(request.param)


@every_method
@pytest.mark.parametrize("backbone", LOADABLE, indirect=True)
def test_scores_have_one_map_per_class_and_repeat(method_name: str, backbone: Backbone) -> None:
    method = build_method(method_name, backbone.name)
    prompt = PROMPTS.get(method.prompt_rule.text, class_prompt(["star", "ring"], ["grass"]))
    size = method.settings.image_size
    request = method.request(backbone.sites(size))
    image = Image.fromarray(make_scene(0, "val", 12).image)

    if method.settings.drawn == "mask" and not backbone.draws_masks:
        with pytest.raises(UserError, match="was not taught to draw"):
            build_methods([method_name], backbone.name, build("protocol", "standard"))
        return

    def scores() -> torch.Tensor:
        (noised,) = backbone.noised([image], method.settings, [image_generator(0, "test", "1")])
        scores = method(backbone.observe([PromptedImage(*noised, prompt)], request, size)[0])
        assert len(scores.classes) == len(scores.evidence) >= 1
        assert len(scores.classes) == len(prompt.classes) or method.unnamed_masks
        assert scores.classes.shape[1:] == scores.background.shape
        return torch.cat([scores.classes, scores.background[None]])

    first = scores()
    assert not first.isnan().any()
    assert torch.equal(first, scores())


@every_method
@pytest.mark.parametrize("name", config_files("backbone"))
def test_a_method_is_a_plain_value_on_every_backbone(method_name: str, name: str) -> None:
    method = build_method(method_name, name)
    assert method.name == method_name
    assert json.loads(json.dumps(asdict(method)))["name"] == method_name
    assert {method: "itself"}[build_method(method_name, name)] == "itself"
    assert replace(method, variant="+other") != method


@every_method
def test_choices_win_over_the_backbones_defaults(method_name: str) -> None:
    sizes = [
        build_method(method_name, "pocket-flux", **choice).settings.image_size for choice in ({}, {"image_size": 64})
    ]
    assert sizes == [128, 64]


def test_choices_win_over_a_preset_and_a_preset_over_the_methods_own_fields() -> None:
    def steps(backbone_name: str, **choices: int) -> int | None:
        return build_method("seg4diff", backbone_name, **choices).settings.timestep.steps

    assert steps("pocket-sd3") == 28
    assert steps("pocket-flux") == 50
    assert steps("pocket-flux", steps=20) == 20
