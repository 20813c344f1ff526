from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from segscale.backbones.attention.modalities import Modalities, ModalityMeter, observe_modalities
from segscale.backbones.attention.probe import AttentionProbe
from segscale.backbones.attention.requests import MapRequest
from segscale.backbones.build import build_backbone
from segscale.backbones.inputs import PromptedImage
from segscale.backbones.latents.noise import image_generator
from segscale.backbones.latents.settings import CaptureSettings, Timestep
from segscale.backbones.sd3 import StableDiffusion3
from segscale.datasets.prompts.described import class_prompt
from segscale.errors import UserError
from segscale.methods.build import method_defaults
from segscale.prompt import Prompt

HEADS, WIDTH = 3, 4
PROMPT = class_prompt(["star", "ring"], ["grass"])


class Joint(nn.Module):
    """Joint attention over given heads, below a parent that a probe can name it from."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Module()
        self.attention.forward = F.scaled_dot_product_attention

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attention(query, key, value)


def eager(query: Tensor, key: Tensor, value: Tensor, image: slice, text: slice, words: list[int]) -> Modalities:
    """The definition, with all probabilities at once."""
    mass = (query @ key.transpose(-1, -2) * WIDTH**-0.5).softmax(-1)[0].mean(0)
    i2t = mass[image, text].sum(0) / len(mass[image])
    return Modalities(
        i2i=mass[image, image].sum(-1).mean().item(),
        i2t=i2t.sum().item(),
        t2i=mass[text, image].sum(-1).mean().item(),
        t2t=mass[text, text].sum(-1).mean().item(),
        i2t_words=i2t[words].sum().item(),
        i2t_special=(i2t.sum() - i2t[words].sum()).item(),
        image_value_norm=value[0, :, image].square().sum(-1).sqrt().mean().item(),
        text_value_norm=value[0, :, text].square().sum(-1).sqrt().mean().item(),
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), text=st.integers(1, 5), image=st.integers(1, 9), first=st.booleans(), chunk=st.integers(1, 4000))
def test_equal_to_an_eager_softmax_whatever_the_chunk(
    data: st.DataObject, text: int, image: int, first: bool, chunk: int
) -> None:
    words = data.draw(st.lists(st.integers(0, text - 1), unique=True))
    generator = torch.Generator().manual_seed(text * image)
    query, key, value = (2 * torch.randn(1, HEADS, text + image, WIDTH, generator=generator) for _ in range(3))
    pixels, columns = slice(text, text + image), slice(0, text)
    if not first:
        pixels, columns = slice(0, image), slice(image, image + text)
    model = Joint()
    meter = ModalityMeter(pixels, columns, tuple(words), chunk)
    with AttentionProbe(model, {"attention": meter}) as probe:
        probed = model(query, key, value)
    torch.testing.assert_close(probed, model(query, key, value), atol=1e-5, rtol=1e-5)
    reference = eager(query, key, value, pixels, columns, words)
    np.testing.assert_allclose(astuple(probe.observations["attention"]), astuple(reference), atol=1e-5)


@pytest.mark.parametrize("name", ["pocket-sd3", "pocket-flux"])
def test_rows_sum_to_one_and_the_forward_stays_as_it_is(name: str) -> None:
    backbone = build_backbone(name)
    defaults = method_defaults(name)
    size = defaults.image_size
    capture = CaptureSettings(size, Timestep(t=defaults.timestep))
    picture = Image.effect_noise((80, 60), 90).convert("RGB")
    ((noised, level),) = backbone.noised([picture], capture, [image_generator(0, "", "")])
    outputs: list[Tensor] = []
    backbone.denoiser.register_forward_hook(lambda module, arguments, output: outputs.append(output[0]))
    blocks = observe_modalities(backbone, noised, level, PROMPT, size)
    with torch.no_grad():
        backbone.denoise(noised, torch.tensor([level.timestep]), backbone.conditioning([PROMPT.text]))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)
    assert [*blocks] == [site.name for site in backbone.sites(size)]
    for block in blocks.values():
        assert block.i2i + block.i2t == pytest.approx(1, abs=1e-5)
        assert block.t2i + block.t2t == pytest.approx(1, abs=1e-5)
        assert block.i2t_words + block.i2t_special == pytest.approx(block.i2t)
        assert 0 < block.i2t_words < block.i2t
    (maps,) = backbone.observe([PromptedImage(noised, level, PROMPT)], MapRequest(text=frozenset(blocks)), size)
    for site, block in blocks.items():
        assert block.i2t == pytest.approx(maps.text[site].sum(-1).mean().item(), abs=1e-5)


def test_a_u_net_has_no_joint_attention() -> None:
    backbone = build_backbone("pocket-sd15")
    level = backbone.noise_level(CaptureSettings(64, Timestep(t=100)))
    with pytest.raises(UserError, match=r"pocket-sd15 has no joint attention .* such as pocket-sd3"):
        observe_modalities(backbone, torch.zeros(1, 4, 16, 16), level, PROMPT, 64)


def test_mass_on_text_equals_the_published_maps(seg4diff_parity: Path) -> None:
    """The published maps end with the 77 columns of CLIP; the zero rows that follow come from the probe's own map."""
    backbone = StableDiffusion3(
        name="tiny",
        weights=str(seg4diff_parity / "tiny-sd3"),
        t5_tokens=77,
        with_t5=False,
    )
    oracle = seg4diff_parity / "oracle"
    noised = torch.from_numpy(np.load(oracle / "sd3_common.npz")["noised_latent"])
    maps, case = np.load(oracle / "sd3_voc20_layers.npz"), np.load(oracle / "sd3_voc20.npz")
    level = backbone.noise_level(CaptureSettings(256, Timestep(index=-8, steps=28)))
    prompt = Prompt("bottle diningtable person pottedplant tvmonitor", ())
    blocks = observe_modalities(backbone, noised, level, prompt, 256)
    (own,) = backbone.observe([PromptedImage(noised, level, prompt)], MapRequest(text=frozenset(blocks)), 256)
    words = slice(1, 1 + int(case["num_tokens"].sum()))
    for layer in range(12):
        published, block = maps[f"i2t_layer{layer}"].astype(np.float64), blocks[f"vit-block{layer}"]
        zero_rows = own.text[f"vit-block{layer}"][:, 77:].double().sum(-1).mean().item()
        assert block.i2t_words == pytest.approx(published[:, words].sum(-1).mean(), rel=1e-4)
        assert block.i2t == pytest.approx(published.sum(-1).mean() + zero_rows, rel=1e-4)
        # More than the tolerance, so that leaving them out would be seen.
        assert zero_rows > 1e-3 * block.i2t
