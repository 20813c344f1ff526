"""Rung of the pocket ladder: MM-DiT, 250 steps, steps varied, seed 0."""

_base_ = ["segscale::backbones/pocket-sd3.py"]

denoiser_weights = "pocket:rungs/pocket-sd3-250-seed0"
