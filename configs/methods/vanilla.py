"""Cross-attention averaged over heads and layers, min-max per word, self-attention affinity."""

custom_imports = dict(imports=["segscale.methods.goca"])

type = "GoCA"
heads = "average"
layers = "uniform"
rescaling = "min-max"
