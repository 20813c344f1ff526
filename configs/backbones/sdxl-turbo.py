"""SDXL Turbo, the 512 px distillation of SDXL."""

_base_ = ["./sdxl.py"]

weights = "stabilityai/sdxl-turbo"
recommended = dict(image_size=512)
