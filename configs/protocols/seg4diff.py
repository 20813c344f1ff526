"""Seg4Diff as published (arXiv 2509.18096): classes alone compete, background is not scored, mean over labelled ones."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.protocol"])

class_oracle = "present"
prompt = "class-names"
background_rule = "none"
thresholds = (0.0,)
threshold = 0.0
absent = "zero"
void = "ignored"
background_scored = False
averaging = "in-ground-truth"
