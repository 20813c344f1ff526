"""ADE20K scene parsing, 150 classes, other pixels ignored, 2000 validation images."""

custom_imports = dict(imports=["segscale.datasets.ade20k"])

type = "ADE20K"
split = "val"
background = False
data_root = "data/ade20k"
benchmark = "ade20k"
