"""Seg4Diff as published (arXiv 2509.18096): classes alone compete, background is not scored, mean over labelled."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.tasks.protocol"])

class_oracle = "present"
prompt = "joined-names"
prompted_edges = (640, 2560)
names = "seg4diff"
background_rule = "none"
thresholds = (0.0,)
threshold = 0.0
absent = "zero"
undefined = "wins"
void = "ignored"
background_scored = False
averaging = "in-ground-truth"
only_listed_datasets = True
datasets = {
    "voc": dict(name_list="voc20", arguments=dict(background=False)),
    "context59": dict(name_list="context59", arguments=dict(background=False)),
    # Background is prompted like a class and may be predicted.
    "coco-object": dict(name_list="coco-object", arguments=dict(background=True)),
    "cityscapes": dict(name_list="cityscapes", arguments=dict(background=False)),
    "ade20k": dict(name_list="ade20k", arguments=dict(background=False)),
    "pocket": dict(arguments=dict(background=False)),
}
