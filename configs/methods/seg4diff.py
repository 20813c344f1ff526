"""Seg4Diff as its published code computes it: one block's image-to-text attention, class names as prompt."""

custom_imports = dict(imports=["segscale.methods.seg4diff"])

type = "Seg4Diff"
