"""GoCA as its paper describes it: every quirk of the published code mended."""

_base_ = ["./goca.py"]

reference_channels = "all"
renormalise_layers = True
renormalise_affinity = True
safe_division = True
captions = "described"
location = "span"
