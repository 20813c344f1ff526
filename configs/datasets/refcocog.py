"""RefCOCOg in the split of UMD, every expression with the mask of what it means."""

custom_imports = dict(imports=["segscale.datasets.refcoco"])

type = "RefCocoG"
split = "val"
background = True
data_root = "data/refcoco"
benchmark = "refcocog"
