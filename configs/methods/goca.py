"""GoCA as its published code computes it: heads and layers weighed, words rescaled per pixel."""

custom_imports = dict(imports=["segscale.methods.goca"])

type = "GoCA"
