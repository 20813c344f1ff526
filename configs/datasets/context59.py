"""Pascal Context, 59 classes, background ignored, 5104 validation images."""

custom_imports = dict(imports=["segscale.datasets.context"])

type = "PascalContext"
split = "val"
background = False
data_root = "data/context"
benchmark = "context59"
