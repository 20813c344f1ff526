"""The messages of OpenAI's chat interface: a question about an image, an answer, an error."""

from __future__ import annotations

import base64
import io
import json

from PIL import Image

from .captioner import NoCaptionError, one_line
from .retry import RetryableError


def message_of(image: Image.Image, question: str) -> dict[str, object]:
    """A user's question about an image, which goes along as JPEG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=95)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return {"role": "user", "content": content}


def answer_of(text: str) -> str:
    """The text of a completion. Raises NoCaptionError for a refusal, RetryableError for what is no completion."""
    try:
        choice = json.loads(text)["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        if not isinstance(content, str):
            raise TypeError(f"content is of type {type(content).__name__}")
        refusal = message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RetryableError(f"malformed answer ({error_of(text)[0] or type(error).__name__})") from error
    if refusal or finish == "content_filter":
        raise NoCaptionError(f"refused: {one_line(str(refusal or finish))}", refused=True)
    return content


def error_of(text: str) -> tuple[str, str]:
    """Message and code of an error in JSON, each empty where there is none."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, LookupError, TypeError):
        return "", ""
    if isinstance(error, dict):
        return one_line(str(error.get("message") or ""), 200), str(error.get("code") or "")
    return one_line(str(error), 200), ""
