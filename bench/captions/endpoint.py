"""Captions by a model behind an OpenAI-compatible endpoint (``/chat/completions``)."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image
from requests.auth import AuthBase

from segscale.errors import UserError

from .captioner import Captioner, NoCaptionError, shown

KEY_VARIABLES = ("SEGSCALE_API_KEY", "OPENAI_API_KEY")
# Beside server errors: timeout, conflict, too early, too many.
PASSING = (408, 409, 425, 429)
# What hosts call an image that their own filter stopped before the model saw it.
FILTERED = ("content_filter", "content_policy_violation")


@dataclass(frozen=True)
class Patience:
    """How long to try, in seconds. timeout: of silence within one request; backoff: before the first retry,
    doubled before each further one; longest_wait: what a server may ask for with Retry-After."""

    timeout: float = 120.0
    retries: int = 5
    backoff: float = 1.0
    longest_wait: float = 600.0


class Pace:
    """Spreads requests of all threads evenly, at most ``per_minute`` (None: as fast as they come)."""

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self.sleep = sleep
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until it is this request's turn."""
        with self._lock:
            turn = max(self._next, self._clock())
            self._next = turn + self._interval
        self.sleep(max(0.0, turn - self._clock()))

    def hold(self, seconds: float) -> None:
        """No request starts within the next ``seconds``."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class _Bearer(AuthBase):
    """The key as a header. Being an object of its own, it also keeps requests from looking into ~/.netrc."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _PassingError(Exception):
    """A failure that the next attempt may not have. wait: seconds the server asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class EndpointCaptioner(Captioner):
    """Asks ``<url>/chat/completions`` with the image as JPEG in a data URL.

    name: of the model. key: sent as bearer token and shown nowhere. temperature: None leaves it out.
    Raises UserError for an unusable URL.
    """

    def __init__(
        self,
        url: str,
        name: str,
        key: str | None = None,
        temperature: float | None = 0.0,
        pace: Pace | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name = name
        self._url = f"{checked_url(url).removesuffix('/chat/completions')}/chat/completions"
        self._key = key
        self._temperature = temperature
        self._pace = pace or Pace(None)
        self._patience = patience or Patience()

    def __call__(self, image: Image.Image, question: str) -> str:
        body: dict[str, Any] = {"model": self.name, "messages": [_message(image, question)]}
        if self._temperature is not None:
            body["temperature"] = self._temperature
        reason = ""
        for attempt in range(self._patience.retries + 1):
            self._pace.wait()
            try:
                return self._ask(body)
            except _PassingError as failure:
                reason = str(failure)
                if attempt < self._patience.retries:
                    self._wait(failure, attempt)
        raise NoCaptionError(f"{reason}, {self._patience.retries + 1} times", refused=False)

    def _wait(self, failure: _PassingError, attempt: int) -> None:
        if failure.wait is None:
            self._pace.sleep(self._patience.backoff * 2**attempt)
        elif failure.wait > self._patience.longest_wait:
            raise UserError(f"the endpoint asks to come back in {failure.wait:.0f} s", "run the same command then")
        else:
            self._pace.hold(failure.wait)

    def _ask(self, body: dict[str, Any]) -> str:
        try:
            response = requests.post(
                self._url,
                json=body,
                auth=_Bearer(self._key),
                timeout=self._patience.timeout,
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise _PassingError(f"no answer in {self._patience.timeout:g} s") from error
        except requests.exceptions.InvalidURL as error:
            raise UserError(f"{self._url} is no web address", "check --endpoint") from error
        except requests.RequestException as error:
            raise _PassingError(f"connection failed ({type(error).__name__})") from error
        text = response.content.decode("utf-8", errors="replace")
        if self._key:
            # JSON may escape slashes.
            for form in (self._key, self._key.replace("/", "\\/")):
                text = text.replace(form, "[key]")
        if not 200 <= response.status_code < 300:
            self._explain(response.status_code, text, response.headers)
        return _answer(text)

    def _explain(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        message, code = _error_of(text)
        what = f"{self._url} answers {status}{f' ({message})' if message else ''}"
        if status in PASSING or status >= 500:
            raise _PassingError(f"status {status}", _retry_after(headers.get("Retry-After")))
        if code in FILTERED:
            raise NoCaptionError(f"refused: {code}", refused=True)
        if status == 401:
            raise UserError(what, f"set the key: export {KEY_VARIABLES[0]}=...")
        if status == 403:
            raise UserError(what, f"check that your key may use {self.name}")
        if status == 404:
            raise UserError(what, f"check --endpoint and --captioner {self.name}")
        raise UserError(what, "check --endpoint and --captioner; a model that takes no temperature: --temperature none")


def checked_url(url: str) -> str:
    """``url`` without trailing slash. Raises UserError unless it is a web address that holds no secret."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise UserError("--endpoint is no web address", "name the base URL, as in --endpoint http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError("--endpoint may hold no key, user or query", f"put the key into {KEY_VARIABLES[0]}")
    return url.rstrip("/")


def key_from(environment: Mapping[str, str] | None = None) -> str | None:
    """The API key of the environment, or None. Raises UserError, without showing it, for one no header can carry."""
    environment = os.environ if environment is None else environment
    for name in KEY_VARIABLES:
        if key := environment.get(name, "").strip():
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise UserError(f"{name} holds characters that no key has", f"set it again: export {name}=...")
            return key
    return None


def _message(image: Image.Image, question: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=95)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return {"role": "user", "content": content}


def _answer(text: str) -> str:
    """The text of a completion. Raises NoCaptionError for a refusal, _PassingError for what is no completion."""
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
        raise _PassingError(f"malformed answer ({_error_of(text)[0] or type(error).__name__})") from error
    if refusal or finish == "content_filter":
        raise NoCaptionError(f"refused: {shown(str(refusal or finish))}", refused=True)
    return content


def _error_of(text: str) -> tuple[str, str]:
    """Message and code of an error in JSON, each empty where there is none."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, LookupError, TypeError):
        return "", ""
    if isinstance(error, dict):
        return shown(str(error.get("message") or ""), 200), str(error.get("code") or "")
    return shown(str(error), 200), ""


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given in seconds or as a date; None where it says nothing."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
