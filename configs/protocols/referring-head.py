"""As referring, but of an expression's words only the head noun is the target's."""

_base_ = ["./referring.py"]

prompt = "expression-head"
