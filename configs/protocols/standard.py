"""Official validation split, ignored pixels ignored, one fixed threshold, classes of the image known."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.tasks.protocol"])

class_oracle = "present"
prompt = "caption"
background_rule = "offset"
# Of the offset of a background map in [0, 1]; steps of 0.1 would cost a calibrated method up to a point of mIoU.
thresholds = tuple(round(0.05 * step, 2) for step in range(-8, 9))
# Where `segscale calibrate` stored none.
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
