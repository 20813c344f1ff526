from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from segscale.backbones.pocket.text import clip_tokenizer
from segscale.bench.generation.network_measures import (
    ClipScorer,
    clip_measure,
    features_of,
    fid_measure,
    load_inception,
)
from segscale.bench.generation.prompts import PicturePrompt
from segscale.errors import UserError


class TinyInception(nn.Module):
    """Stands for the published network: it takes the same arguments and gives fewer features."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        if not return_features:
            raise ValueError
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)


@pytest.fixture
def inception(tmp_path: Path) -> Path:
    path = tmp_path / "inception.pt"
    torch.jit.script(TinyInception()).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer()
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    text.eos_token_id = tokenizer.eos_token_id
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def images(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)) for i in range(count)]


def test_images_of_any_size_become_features_whatever_the_batch(inception: Path) -> None:
    network, pictures = load_inception(inception), images(20)
    features = features_of(network, pictures)
    assert features.shape == (20, 12)
    np.testing.assert_allclose(features[17:18], features_of(network, pictures[17:18]))


def test_the_fid_of_images_with_themselves_is_0(inception: Path) -> None:
    network = load_inception(inception)
    same = fid_measure(network, images(20), images(20))
    assert same.value == pytest.approx(0, abs=1e-9)
    assert fid_measure(network, images(20, seed=1), images(20)).value > 0.001


def test_a_file_that_is_no_torchscript_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded as TorchScript"):
        load_inception(path)


def test_clip_scores_are_cosines_of_each_pair_times_100_without_negative_ones(clip: Path) -> None:
    scorer, pictures = ClipScorer(str(clip)), images(18)
    prompts = [PicturePrompt(str(i), "a star" if i % 2 else "grass, a ring") for i in range(18)]
    measure, rows = clip_measure(scorer, prompts, pictures)
    assert rows["id"].tolist() == [prompt.id for prompt in prompts]
    pixels = scorer.processor(images=pictures[3:4], return_tensors="pt")["pixel_values"]
    tokens = scorer.tokenizer(["a star"], return_tensors="pt")
    with torch.no_grad():
        output = scorer.model(**tokens, pixel_values=pixels)
    product = (output.image_embeds * output.text_embeds).sum().item()
    norms = output.image_embeds.norm().item() * output.text_embeds.norm().item()
    assert rows["clip_score"][3] == pytest.approx(100 * max(0.0, product / norms), abs=1e-3)
    assert rows["clip_score"].min() >= 0
    assert measure.value == pytest.approx(rows["clip_score"].mean())


def test_missing_clip_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        ClipScorer(str(tmp_path))


def test_a_network_that_was_saved_in_half_precision_scores_in_float32(clip: Path, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path / "half")
    CLIPModel.from_pretrained(clip).half().save_pretrained(tmp_path / "half")
    assert ClipScorer(str(tmp_path / "half")).model.dtype == torch.float32
