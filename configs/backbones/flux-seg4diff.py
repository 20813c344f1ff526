"""FLUX.1-dev as Seg4Diff feeds it: 77 T5 tokens and guidance 3.5."""

_base_ = ["./flux.py"]

text_tokens = 77
guidance = 3.5
