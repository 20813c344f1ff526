"""Referring segmentation: as standard, but all words of an expression are the target's."""

_base_ = ["./standard.py"]

present_from = "annotations"
prompt = "expression"
