"""Captions by a vision-language model on this machine, through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from segscale.errors import UserError

from ...backbones.loading.options import LoadOptions, is_out_of_memory
from ...backbones.loading.pretrained import DTYPES, Dtype, check_device, explained, first_line
from ...backbones.loading.weights_id import hub_file
from .captioner import Captioner

# Apache-2.0, not gated, safetensors, 2.2 billion parameters; its image processor needs no torchvision.
DEFAULT = "HuggingFaceTB/SmolVLM-Instruct"
TOKENS_PER_WORD = 6


class ModelCaptioner(Captioner):
    """An image-text-to-text model with a chat template; greedy decoding, so equal images get equal answers."""

    def __init__(
        self,
        name: str = DEFAULT,
        words: int = 20,
        device: str = "cpu",
        dtype: Dtype = "float32",
        revision: str | None = None,
        offline: bool = False,
    ) -> None:
        """Load the model.

        Args:
            name: Hub id or local folder; weights are read from safetensors only.
            words: Word limit of a caption, which bounds what is generated.
            device: Device that the model runs on.
            dtype: Type of its weights.
            revision: Branch, tag or commit on the hub.
            offline: Read the hub's cache alone.

        Raises:
            UserError: The model cannot be loaded.
        """
        check_device(LoadOptions(device))
        if not Path(name).is_dir():
            hub_file(name, "config.json", revision, offline, "--captioner")
        elif revision is not None:
            raise UserError(f"{name} is a folder, so it has no revision {revision}", "leave --revision out")
        self.name = name
        self.revision = revision
        self._tokens = TOKENS_PER_WORD * words
        options: dict[str, Any] = {
            "revision": revision,
            "local_files_only": offline or Path(name).is_dir(),
            "trust_remote_code": False,
        }
        with explained(name, name, "--captioner"):
            self._processor = _processor(name, options)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                name, dtype=DTYPES[dtype], use_safetensors=True, **options
            )
        try:
            self._model = model.to(device).eval()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f"{name} does not fit into the memory of {device}", "take --dtype float16") from error

    @torch.inference_mode()
    def __call__(self, image: Image.Image, question: str) -> str:
        content = [{"type": "image", "image": image.convert("RGB")}, {"type": "text", "text": question}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device, self._model.dtype)
        output = self._model.generate(
            **inputs,
            max_new_tokens=self._tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
        )
        answer = output[0, inputs["input_ids"].shape[1] :]
        return self._processor.decode(answer, skip_special_tokens=True)


def _processor(name: str, options: dict[str, Any]) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(name, **options)
    except ImportError as error:
        hint = f"install what it needs, or use a model that needs nothing more, such as {DEFAULT}"
        raise UserError(f"{name} needs a package that is not here: {first_line(error)}", hint) from error
    if getattr(processor, "image_processor", None) is None or not getattr(processor, "chat_template", None):
        raise UserError(f"{name} takes no questions about images", f"use an instruct model, such as {DEFAULT}")
    return processor
