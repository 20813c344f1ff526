"""Seg4Diff's unsupervised mode as its paper describes it: the stated threshold, the image not padded."""

_base_ = ["./seg4diff-masks.py"]

threshold = 0.035
padded = False
