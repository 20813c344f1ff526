"""The published tables of GoCA and Seg4Diff, cell by cell: 78 runs."""

custom_imports = dict(imports=["segscale.bench.sweeps.sweep"])

type = "Sweep"
_goca = ("voc", "context60", "coco-object", "cityscapes", "ade20k")
products = (
    dict(
        backbones=("sd15", "sdxl", "pixart-sigma", "flux"),
        methods=("vanilla", "goca"),
        datasets=_goca,
        protocols=("goca",),
    ),
    # Published for one backbone alone.
    dict(backbones=("sd15",), methods=("baseline",), datasets=_goca, protocols=("goca",)),
    # The ablation.
    dict(
        backbones=("sd15", "sdxl"),
        methods=("goca-heads", "goca-layers", "goca-rescale"),
        datasets=("voc",),
        protocols=("goca",),
    ),
    dict(
        backbones=("sd3", "sd35", "flux-seg4diff"),
        methods=("seg4diff",),
        datasets=("voc", "context59", "coco-object", "cityscapes", "ade20k"),
        protocols=("seg4diff",),
    ),
    dict(
        backbones=("sd3", "sd35"),
        methods=("seg4diff-masks",),
        datasets=("voc", "context60", "coco-object", "coco-stuff-27", "cityscapes", "ade20k"),
        protocols=("seg4diff-unsupervised",),
    ),
)
