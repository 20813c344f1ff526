"""COCO-Stuff-27, coarse classes of things and stuff, 5000 validation images."""

custom_imports = dict(imports=["segscale.datasets.coco"])

type = "CocoStuff27"
split = "val"
background = False
data_root = "data/coco"
benchmark = "coco-stuff-27"
