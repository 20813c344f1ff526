"""Vanilla over hand-picked sites, the coarse ones that localise words best."""

_base_ = ["./vanilla.py"]
