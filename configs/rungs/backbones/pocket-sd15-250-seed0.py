"""Rung of the pocket ladder: U-Net, 250 steps, steps varied, seed 0."""

_base_ = ["segscale::backbones/pocket-sd15.py"]

denoiser_weights = "pocket:rungs/pocket-sd15-250-seed0"
