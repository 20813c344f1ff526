"""Cross-attention averaged over heads and layers, min-max per word, self-attention affinity."""

custom_imports = dict(imports=["segscale.methods.vanilla"])

type = "Vanilla"
