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
    "voc": dict(name_list="voc"),
    "context59": dict(name_list="context"),
    "context60": dict(name_list="context"),
    "coco-object": dict(name_list="coco-object"),
    "coco-stuff-27": dict(name_list="coco-stuff-27"),
    "cityscapes": dict(name_list="cityscapes"),
    "ade20k": dict(name_list="ade20k"),
}
