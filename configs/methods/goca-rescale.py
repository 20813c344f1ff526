"""Ablation of GoCA: words rescaled per pixel, the rest as vanilla, over the same sites as goca."""

_base_ = ["./goca.py"]

heads = "average"
layers = "uniform"
