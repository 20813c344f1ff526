"""200 generated scenes with two of a kind and an expression each; needs no files."""

custom_imports = dict(imports=["segscale.datasets.pocket_referring"])

type = "PocketReferring"
split = "val"
size = 200
benchmark = "pocket-referring"
