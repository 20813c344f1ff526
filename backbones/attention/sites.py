"""Where attention is observed: transformer blocks with their grid, in execution order."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from segscale.errors import UserError


@dataclass(frozen=True)
class Grid:
    """Pixels of a latent feature map, row-major."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.height * self.width

    def halved(self, times: int) -> Grid:
        """Return the grid after ``times`` convolutions of stride 2 and padding 1."""
        height, width = self.height, self.width
        for _ in range(times):
            height, width = (height + 1) // 2, (width + 1) // 2
        return Grid(height, width)


@dataclass(frozen=True)
class Site:
    """One transformer block of a denoiser."""

    name: str
    """The papers' name, independent of module paths (``up-level2-repeat1-vit-block0``, ``vit-block9``)."""
    layer: int
    """Its place in execution order."""
    heads: int
    grid: Grid
    """The block's pixels."""
    text_module: str | None
    """Qualified name of the module whose attention has text keys, None where there is none."""
    pixel_module: str | None
    """Qualified name of the module whose attention has pixel keys; the same one where attention is joint."""
    projection: str | None = None
    """The text module's out projection, None where the block has none of its own."""

    @property
    def kind(self) -> str:
        """The attention: ``joint`` (one softmax over text and pixels), ``cross+self``, ``cross`` or ``self``."""
        if self.text_module == self.pixel_module:
            return "joint"
        return "+".join(kind for kind, module in (("cross", self.text_module), ("self", self.pixel_module)) if module)


def selected_sites(sites: Iterable[Site], names: Set[str], backbone_name: str) -> dict[str, Site]:
    """Return the sites of ``names``, in order. Raises UserError for a name that no site has."""
    by_name = {site.name: site for site in sites}
    if unknown := sorted(names - by_name.keys()):
        hint = f"list them with: segscale sites {backbone_name}"
        raise UserError(f"{backbone_name} has no site {unknown[0]!r}", hint)
    return {name: site for name, site in by_name.items() if name in names}


def text_sites(sites: Iterable[Site]) -> dict[str, Site]:
    """The sites that attend to text, by name, in order."""
    return {site.name: site for site in sites if site.text_module is not None}


def text_site(sites: Iterable[Site], name: str | None, backbone_name: str) -> Site:
    """Return the site of this name that attends to text. Raises UserError where there is none."""
    found = text_sites(sites).get(name or "")
    if found is None:
        hint = f"see: segscale sites {backbone_name}"
        raise UserError(f"{backbone_name} has no site {name!r} that reads text", hint)
    return found


def cross_attention_sites(blocks: str, heads: Iterable[int], grid: Grid) -> tuple[Site, ...]:
    """Return a site for every transformer block that attends to pixels (``attn1``), then to text (``attn2``).

    Args:
        blocks: Name of the module list.
        heads: Of each block.
        grid: The denoiser's pixels, alike in all blocks.
    """
    return tuple(
        Site(
            name=f"vit-block{index}",
            layer=index,
            heads=of_block,
            grid=grid,
            text_module=f"{blocks}.{index}.attn2",
            pixel_module=f"{blocks}.{index}.attn1",
            projection=f"{blocks}.{index}.attn2.to_out.0",
        )
        for index, of_block in enumerate(heads)
    )
