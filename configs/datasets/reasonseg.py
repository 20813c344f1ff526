"""ReasonSeg: one question per image, with the mask of its answer."""

custom_imports = dict(imports=["segscale.datasets.reasonseg"])

type = "ReasonSeg"
split = "val"
background = True
data_root = "data/reasonseg"
benchmark = "reasonseg"
