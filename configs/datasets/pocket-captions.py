"""1,000 generated scenes of another seed, whose captions measure generative power."""

_base_ = ["./pocket.py"]

size = 1000
seed = 1
