"""Sites of a UNet2DConditionModel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import UNet2DConditionModel

from .attention.sites import Grid, Site


def _attention_stacks(unet: UNet2DConditionModel) -> Iterator[tuple[str, str, int]]:
    """Yield name, module path and halvings of every stack of transformer blocks, in execution order."""
    depth = len(unet.down_blocks)
    for level, block in enumerate(unet.down_blocks):
        for repeat in range(len(getattr(block, "attentions", ()))):
            yield f"down-level{level}-repeat{repeat}", f"down_blocks.{level}.attentions.{repeat}", level
    for repeat in range(len(getattr(unet.mid_block, "attentions", ()))):
        yield "mid", f"mid_block.attentions.{repeat}", depth - 1
    for level, block in enumerate(unet.up_blocks):
        for repeat in range(len(getattr(block, "attentions", ()))):
            yield f"up-level{level}-repeat{repeat}", f"up_blocks.{level}.attentions.{repeat}", depth - 1 - level


def unet_sites(unet: UNet2DConditionModel, latent: Grid) -> tuple[Site, ...]:
    """Return every transformer block: self-attention over pixels, then cross-attention to text.

    Names follow GoCA: ``<down|mid|up>-level<U-Net block>-repeat<attention in it>-vit-block<B>``.
    """
    sites: list[Site] = []
    for name, path, halvings in _attention_stacks(unet):
        blocks: Any = unet.get_submodule(f"{path}.transformer_blocks")
        for index, block in enumerate(blocks):
            module = f"{path}.transformer_blocks.{index}"
            sites.append(
                Site(
                    name=f"{name}-vit-block{index}",
                    layer=len(sites),
                    heads=block.attn2.heads,
                    grid=latent.halved(halvings),
                    text_module=f"{module}.attn2",
                    pixel_module=f"{module}.attn1",
                    projection=f"{module}.attn2.to_out.0",
                )
            )
    return tuple(sites)
