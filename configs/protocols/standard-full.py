"""The standard protocol with the full vocabulary prompted, so that nothing is known of the image."""

_base_ = ["./standard.py"]

class_oracle = "all"
prompt = "class-names"
oracle_protocol = "standard"
