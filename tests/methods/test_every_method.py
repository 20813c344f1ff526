"""What holds for every method on every backbone that can be loaded here."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from segscale.backbones.backbone import Backbone
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.loading.pretrained import PACKAGED
from segscale.bench.runs.identity import plain
from segscale.bench.runs.plan import build_method
from segscale.datasets.pocket import make_scene
from segscale.datasets.prompts.described import class_prompt

from segscale.catalogue import config_files
from segscale.prompt import Prompt
from segscale.registry import build, load_config

LOADABLE = [name for name in config_files("backbone") if load_config("backbone", name)["weights"].startswith(PACKAGED)]
every_method = pytest.mark.parametrize("method_name", config_files("method"))


@pytest.fixture(scope="module", params=LOADABLE)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return build("backbone", request.param)


@every_method
def test_scores_have_one_map_per_class_and_repeat(method_name: str, backbone: Backbone) -> None:
    method = build_method(method_name, backbone.name)
    prompt = class_prompt(["star", "ring"], ["grass"]) if method.prompt.text != "empty" else Prompt("", ())
    request = method.request(backbone.sites(method.settings.image_size))
    image = Image.fromarray(make_scene(0, "val", 12).image)

    def scores() -> torch.Tensor:
        maps = backbone.capture(image, prompt, request, method.settings, image_generator(0, "test", "1"))
        found = method(maps)
        assert len(found.classes) == len(found.evidence) >= 1
        assert len(found.classes) == 2 or method.clusters
        assert found.classes.shape[1:] == found.background.shape
        return torch.cat([found.classes, found.background[None]])

    first = scores()
    assert not first.isnan().any()
    assert torch.equal(first, scores())


@every_method
@pytest.mark.parametrize("name", config_files("backbone"))
def test_a_preset_exists_and_its_parameters_are_plain(method_name: str, name: str) -> None:
    method = build_method(method_name, name)
    assert method.name == method_name
    assert plain(method.parameters)["name"] == method_name
