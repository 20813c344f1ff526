"""Seg4Diff's unsupervised mode as published: nameless masks from an empty prompt."""

custom_imports = dict(imports=["segscale.methods.seg4diff_unsupervised"])

type = "Seg4DiffUnsupervised"
