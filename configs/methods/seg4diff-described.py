"""Seg4Diff as its paper describes it: any prompt, words located by their own span, Flux fed as it was trained."""

_base_ = ["./seg4diff.py"]

reading = "described"
safe_division = True
