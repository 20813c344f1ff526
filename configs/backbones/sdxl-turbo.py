"""SDXL Turbo, the 512 px distillation of SDXL."""

_base_ = ["./sdxl.py"]

weights = "stabilityai/sdxl-turbo"
architecture = dict(
    unet=dict(sample_size=64),
    scheduler=dict(type="EulerAncestralDiscreteScheduler", timestep_spacing="trailing"),
)
method_defaults = dict(image_size=512)
sampling = dict(steps=1, guidance=1.0)
