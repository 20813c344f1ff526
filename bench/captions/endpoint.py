"""Captions by a model behind an OpenAI-compatible endpoint (``/chat/completions``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image

from segscale.errors import UserError

from .captioner import Captioner, NoCaptionError
from .chat import answer_of, error_of, message_of
from .retry import RateLimiter, RetryableError, RetryPolicy, with_retries

KEY_VARIABLES = ("SEGSCALE_API_KEY", "OPENAI_API_KEY")
# Statuses that the next attempt may not get, beside server errors: timeout, conflict, too early, too many requests.
RETRYABLE = (408, 409, 425, 429)
# What hosts call an image that their own filter stopped before the model saw it.
FILTERED = ("content_filter", "content_policy_violation")
HINTS = {
    401: f"set the key: export {KEY_VARIABLES[0]}=...",
    403: "check that your key may use {name}",
    404: "check --endpoint and --captioner {name}",
}
OTHER_HINT = "check --endpoint and --captioner; a model that takes no temperature: --temperature none"


class EndpointCaptioner(Captioner):
    """Asks ``<url>/chat/completions`` with the image as JPEG in a data URL. The key is shown nowhere."""

    def __init__(
        self,
        url: str,
        name: str,
        key: str | None = None,
        temperature: float | None = 0.0,
        limiter: RateLimiter | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        """``name`` is the model's; a ``temperature`` of None is not sent. Raises UserError for an unusable URL."""
        self.name = name
        self._url = f"{checked_url(url).removesuffix('/chat/completions')}/chat/completions"
        self._key = key
        self._options = {} if temperature is None else {"temperature": temperature}
        self._limiter = limiter or RateLimiter()
        self._policy = policy or RetryPolicy()

    def __call__(self, image: Image.Image, question: str) -> str:
        body = {"model": self.name, "messages": [message_of(image, question)]} | self._options
        return with_retries(lambda: self._ask(body), self._policy, self._limiter)

    def _ask(self, body: dict[str, Any]) -> str:
        response = self._post(body)
        text = response.content.decode("utf-8", errors="replace")
        # JSON may escape slashes.
        for form in (self._key, self._key.replace("/", "\\/")) if self._key else ():
            text = text.replace(form, "[key]")
        if 200 <= response.status_code < 300:
            return answer_of(text)
        raise self._failure(response.status_code, text, response.headers.get("Retry-After"))

    def _post(self, body: dict[str, Any]) -> requests.Response:
        timeout = self._policy.timeout
        try:
            return requests.post(self._url, json=body, auth=self._sign, timeout=timeout, allow_redirects=False)
        except requests.Timeout as error:
            raise RetryableError(f"no answer in {timeout:g} s") from error
        except requests.exceptions.InvalidURL as error:
            raise UserError(f"{self._url} is no web address", "check --endpoint") from error
        except requests.RequestException as error:
            raise RetryableError(f"connection failed ({type(error).__name__})") from error

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the key, if any. That requests has this to call also keeps it from looking into ~/.netrc."""
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _failure(self, status: int, text: str, retry_after: str | None) -> Exception:
        message, code = error_of(text)
        if status in RETRYABLE or status >= 500:
            return RetryableError(f"status {status}", retry_after)
        if code in FILTERED:
            return NoCaptionError(f"refused: {code}", refused=True)
        problem = f"{self._url} answers {status}{f' ({message})' if message else ''}"
        return UserError(problem, HINTS.get(status, OTHER_HINT).format(name=self.name))


def checked_url(url: str) -> str:
    """``url`` without trailing slash. Raises UserError unless it is a web address that holds no secret."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise UserError("--endpoint is no web address", "name the base URL, as in --endpoint http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError("--endpoint may hold no key, user or query", f"put the key into {KEY_VARIABLES[0]}")
    return url.rstrip("/")


def key_from(environment: Mapping[str, str] = os.environ) -> str | None:
    """The API key of the environment, or None. Raises UserError, without showing it, for one no header can carry."""
    for name in KEY_VARIABLES:
        if key := environment.get(name, "").strip():
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise UserError(f"{name} holds characters that no key has", f"set it again: export {name}=...")
            return key
    return None
