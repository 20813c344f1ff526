"""FLUX.1-schnell, 11.9 B parameters, 1024 px, timestep-distilled."""

_base_ = ["./flux.py"]

weights = "black-forest-labs/FLUX.1-schnell"
text_tokens = 256
architecture = dict(transformer=dict(guidance_embeds=False), scheduler=dict(shift=1.0, use_dynamic_shifting=False))
sampling = dict(_delete_=True, steps=4, guidance=1.0)
