"""One's own pictures: --data-root names a folder with images/, masks/ and classes.txt."""

custom_imports = dict(imports=["segscale.datasets.own_folder"])

type = "OwnFolder"
background = True
benchmark = "folder"
