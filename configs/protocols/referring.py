"""Referring segmentation: all words of an expression are the target's, background competes as in standard."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.tasks.protocol"])

class_oracle = "present"
present_from = "annotations"
prompt = "expression"
background_rule = "offset"
thresholds = tuple(round(0.05 * step, 2) for step in range(-8, 9))
threshold = 0.0
absent = "excluded"
void = "ignored"
background_scored = True
averaging = "all"
