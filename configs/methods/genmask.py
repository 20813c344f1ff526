"""GenMask: the mask that a generator trained for it draws in one step, class by class; not training-free."""

custom_imports = dict(imports=["segscale.methods.genmask"])

type = "GenMask"
