"""Cityscapes, 19 classes, other pixels ignored, 500 validation images."""

custom_imports = dict(imports=["segscale.datasets.cityscapes"])

type = "Cityscapes"
split = "val"
background = False
data_root = "data/cityscapes"
benchmark = "cityscapes"
