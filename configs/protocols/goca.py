"""GoCA as published (arXiv 2603.06178): void is background, best threshold of the sweep, mean over every class."""

type = "Protocol"
custom_imports = dict(imports=["segscale.bench.tasks.protocol"])

class_oracle = "present"
prompt = "caption"
background_rule = "offset"
thresholds = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)
threshold = "best"
absent = "zero"
undefined = "wins"
void = "background"
background_scored = True
averaging = "every-class"
names = "goca"
caption_background = True
add_missing = False
only_listed_datasets = True
datasets = {
    "pocket": dict(),
    "voc": dict(
        name_list="voc",
        present_from="annotations",
        add_missing=True,
        arguments=dict(split="train", background=True, present_from="annotations"),
    ),
    "context60": dict(
        name_list="context",
        caption_background=False,
        add_missing=True,
        arguments=dict(split="segmentation-train", background=True, order="goca"),
    ),
    "cityscapes": dict(name_list="cityscapes", caption_background=False, arguments=dict(background=True)),
    "ade20k": dict(name_list="ade20k", arguments=dict(background=True)),
    "coco-object": dict(name_list="coco-object", arguments=dict(background=True)),
    # Food and furniture are merged with their stuff, whose ids stay and count as 0.
    "coco-stuff-27": dict(
        name_list="coco-stuff-27",
        caption_background=False,
        add_missing=True,
        merged_labels=((15, 3), (16, 4)),
        arguments=dict(background=True),
    ),
}
