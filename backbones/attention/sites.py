"""Where attention is observed: transformer blocks with their grid, in execution order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Pixels of a latent feature map, row-major."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def halved(self, times: int) -> Grid:
        """After ``times`` convolutions of stride 2 and padding 1."""
        height, width = self.height, self.width
        for _ in range(times):
            height, width = (height + 1) // 2, (width + 1) // 2
        return Grid(height, width)


@dataclass(frozen=True)
class Site:
    """One transformer block of a denoiser.

    name: the papers' name, independent of module paths (``up-level2-repeat1-vit-block0``, ``vit-block9``).
    layer: index in execution order. heads: attention heads. grid: the block's pixels.
    text_module, pixel_module: qualified names of the modules whose attention has text keys and pixel keys;
    the same one where attention is joint, None where there is none. projection: the text module's out projection,
    None where the block has none of its own.
    """

    name: str
    layer: int
    heads: int
    grid: Grid
    text_module: str | None
    pixel_module: str | None
    projection: str | None = None

    @property
    def kind(self) -> str:
        """``joint`` (one softmax over text and pixels), ``cross+self``, ``cross`` or ``self``."""
        if self.text_module == self.pixel_module:
            return "joint"
        return "+".join(kind for kind, module in (("cross", self.text_module), ("self", self.pixel_module)) if module)
