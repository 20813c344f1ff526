"""Official validation split, ignored pixels ignored, one fixed threshold, classes of the image known."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.protocol"])

class_oracle = "present"
prompt = "caption"
background_rule = "offset"
thresholds = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)
# Best on the pocket twins' calibration scenes, summed over the twins.
threshold = 0.0
absent = "excluded"
void = "ignored"
background_scored = True
averaging = "all"
names = "standard"
datasets = {
    "voc": dict(names_of="voc"),
    "context59": dict(names_of="context"),
    "context60": dict(names_of="context"),
    "coco-object": dict(names_of="coco-object"),
    "coco-stuff-27": dict(names_of="coco-stuff-27"),
    "cityscapes": dict(names_of="cityscapes"),
    "ade20k": dict(names_of="ade20k"),
}
