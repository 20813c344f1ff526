"""Seg4Diff's unsupervised evaluation as published: clusters matched to classes row by row, classes unknown."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.tasks.protocol"])

class_oracle = "present"
prompt = "class-names"
background_rule = "none"
thresholds = (0.0,)
threshold = 0.0
absent = "excluded"
void = "ignored"
background_scored = True
averaging = "all"
matching = "row"
evaluated_edges = (640, 2560)
# VOC with background last; Pascal Context with background first, of which the evaluator drops the last class.
label_orders = {"voc": (*range(1, 21), 0), "context60": tuple(range(59))}
only_listed_datasets = True
datasets = {
    name: dict(arguments=dict(background=name in ("pocket", "voc", "context60", "coco-object")))
    for name in ("pocket", "voc", "context60", "coco-object", "coco-stuff-27", "cityscapes", "ade20k")
}
