"""GoCA as published (arXiv 2603.06178): void is background, best threshold of the sweep, mean over every class."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.protocol"])

class_oracle = "present"
prompt = "caption"
background_rule = "offset"
thresholds = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)
threshold = "best"
absent = "zero"
void = "background"
background_scored = True
averaging = "every-class"
