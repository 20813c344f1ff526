"""Pascal Context, 59 classes and background, 5104 validation images."""

_base_ = ["./context59.py"]

background = True
benchmark = "context60"
