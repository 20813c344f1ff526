"""Pascal VOC 2012 segmentation, 20 classes and background, 1449 validation images."""

custom_imports = dict(imports=["segscale.datasets.voc"])

type = "PascalVOC"
split = "val"
background = True
data_root = "data/voc"
benchmark = "voc"
