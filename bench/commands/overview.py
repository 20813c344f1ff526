"""What there is: names, what is usable on this machine, and where attention can be observed."""

from __future__ import annotations

import click

from segscale.catalogue import KINDS, describe

from . import options
from .command import command
from .steps import quiet_libraries


@command("list", examples=["segscale list", "segscale list --rungs"])
@click.option("--rungs", is_flag=True, help="also the rungs of the pocket ladder whose weights are carried")
def list_names(rungs: bool) -> None:
    """Name backbones, methods, datasets and protocols."""
    # All are read before the first is printed, so that a config that cannot be read does not end the list half-way.
    for kind, lines in {kind: describe(kind, unlisted=rungs) for kind in KINDS}.items():
        print(f"{kind}s")
        for name, line in lines.items():
            print(f"  {name:22} {line}")


@command(examples=["segscale doctor"])
def doctor() -> None:
    """Tell what is usable here, and how to get what is not."""
    from ..doctor import findings

    quiet_libraries()
    for kind, name, state in findings():
        print(f"{kind:8} {name:22} {state}")


@command(examples=["segscale sites pocket-sd3", "segscale sites sd15 --size 256"])
@options.backbone
@options.size
def sites(backbone_name: str, size: int | None) -> None:
    """Tell where a backbone's attention can be observed. No weights are needed."""
    from tabulate import tabulate

    from ...backbones.build import build_shape_only
    from ...methods.build import method_defaults

    quiet_libraries()
    backbone = build_shape_only(backbone_name)
    size = size or method_defaults(backbone_name).image_size
    backbone.check_size(size)
    rows = [
        (site.layer, site.name, site.kind, site.heads, f"{site.grid.height} x {site.grid.width}")
        for site in backbone.sites(size)
    ]
    print(tabulate(rows, headers=("layer", "site", "kind", "heads", "grid"), tablefmt="simple"))
