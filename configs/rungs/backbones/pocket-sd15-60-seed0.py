"""Rung of the pocket ladder: U-Net, 60 steps, steps varied, seed 0."""

_base_ = ["segscale::backbones/pocket-sd15.py"]

denoiser_weights = "pocket:rungs/pocket-sd15-60-seed0"
