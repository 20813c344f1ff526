"""RefCOCO in the split of UNC, every expression with the mask of what it means."""

custom_imports = dict(imports=["segscale.datasets.refcoco"])

type = "RefCocoUnc"
split = "val"
background = True
data_root = "data/refcoco"
benchmark = "refcoco"
