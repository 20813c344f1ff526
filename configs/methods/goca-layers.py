"""Ablation of GoCA: layers weighed, the rest as vanilla, over the same sites as goca."""

_base_ = ["./goca.py"]

heads = "average"
rescaling = "min-max"
