"""COCO-Object, 80 things and background, 5000 validation images, from the panoptic annotation."""

custom_imports = dict(imports=["segscale.datasets.coco"])

type = "CocoObject"
split = "val"
background = True
labels = "panoptic"
data_root = "data/coco"
benchmark = "coco-object"
