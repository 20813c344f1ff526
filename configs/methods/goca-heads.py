"""Ablation of GoCA: heads weighed, the rest as vanilla, over the same sites as goca."""

_base_ = ["./goca.py"]

layers = "uniform"
rescaling = "min-max"
