"""200 generated scenes, 12 object classes and background; needs no files."""

custom_imports = dict(imports=["segscale.datasets.pocket"])

type = "PocketScenes"
split = "val"
size = 200
benchmark = "pocket"
