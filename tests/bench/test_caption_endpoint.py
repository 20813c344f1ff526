"""Captions from a real HTTP server on loopback that misbehaves."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from segscale.bench.captions.captioner import NoCaptionError
from segscale.bench.captions.endpoint import EndpointCaptioner, key_from
from segscale.bench.captions.retry import RateLimiter, RetryPolicy
from segscale.bench.captions.write import SILENT_IMAGES, CaptionReport, write_captions
from segscale.bench.commands.main import main
from segscale.errors import UserError
from segscale.registry import build

from ..conftest import interruptible

KEY = "sk-loop/back+0123456789abcdef"
QUICK = RetryPolicy(timeout=0.3, retries=3, backoff=0.0)
Action = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """plan: what the first requests get, in order; whatever comes after gets a caption made from its image."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[Action] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def images(self) -> list[bytes]:
        """JPEG files in the order they came."""
        return [image_of(body) for body in self.bodies]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["Authorization"])
            self.server.paths.append(self.path)
            action = self.server.plan.pop(0) if self.server.plan else says(caption_for(image_of(body)))
        action(self)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, body: bytes, length: int | None = None, headers: dict[str, str] | None = None) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def image_of(body: dict[str, Any]) -> bytes:
    (url,) = (part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url")
    return base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True)


def caption_for(image: bytes) -> str:
    return f"grass, thing {hashlib.sha256(image).hexdigest()[:8]}"


def completion(content: Any, finish: str = "stop", **message: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content} | message, "finish_reason": finish}]}).encode()


def says(content: Any, finish: str = "stop", **message: Any) -> Action:
    return lambda handler: handler.reply(200, completion(content, finish, **message))


def fails(status: int, message: str = "no", code: str = "", retry_after: str | None = None) -> Action:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda handler: handler.reply(status, body, headers=headers)


def raw(body: bytes, length: int | None = None) -> Action:
    """``body`` under status 200; a greater ``length`` announces more than comes."""
    return lambda handler: handler.reply(200, body, length)


def hangs(handler: Handler) -> None:
    handler.server.closing.wait()


def resets(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SEGSCALE_API_KEY", KEY)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def caption(
    server: Server,
    path: Path,
    limit: int = 1,
    workers: int = 1,
    policy: RetryPolicy = QUICK,
    limiter: RateLimiter | None = None,
) -> CaptionReport:
    captioner = EndpointCaptioner(server.url, "writer", KEY, limiter=limiter, policy=policy)
    return write_captions(build("dataset", "pocket"), captioner, path, 20, limit, workers)


def stored(path: Path) -> dict[str, dict[str, str]]:
    return json.loads(path.read_text())


def image_name(number: int) -> str:
    return f"val-{number:05d}"


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Standard output, and the one line on standard error of a command that must end with status 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert "Traceback" not in printed.err
    assert lines[-1].startswith("segscale: error: ")
    return printed.out, lines[-1]


def command(server: Server, path: Path, *more: str) -> list[str]:
    names = ["caption", "--dataset", "pocket", "--captioner", "writer", "--endpoint", server.url]
    return [*names, "--limit", "6", "--output", str(path), *more]


def test_the_request_is_the_one_of_the_chat_interface(server: Server, tmp_path: Path) -> None:
    caption(server, tmp_path / "c.json")
    (body,) = server.bodies
    assert server.paths == ["/v1/chat/completions"]
    assert server.keys == [f"Bearer {KEY}"]
    assert (body["model"], body["temperature"]) == ("writer", 0)
    text, image = body["messages"][0]["content"]
    assert "at most 20 words" in text["text"]
    assert "gem, ball, leaf" in text["text"]
    assert "background" not in text["text"]
    (tmp_path / "sent.jpg").write_bytes(image_of({"messages": [{"content": [image]}]}))
    assert Image.open(tmp_path / "sent.jpg").size == (64, 64)


RETRYABLE: dict[str, Action] = {
    "500": fails(500),
    "503 with Retry-After": fails(503, retry_after="0"),
    "429": fails(429),
    "408": fails(408),
    "hang": hangs,
    "reset": resets,
    "no JSON": raw(b"<html>busy</html>"),
    "JSON cut short": raw(completion("a dog")[:-10]),
    "body cut short": raw(completion("a dog"), length=10_000),
    "no choices": raw(b'{"choices": []}'),
    "an error under 200": raw(b'{"error": {"message": "overloaded"}}'),
    "a list": raw(b"[]"),
    "content of a wrong type": says({"text": "a dog"}),
    "no bytes": raw(b""),
}


@pytest.mark.parametrize("name", RETRYABLE)
def test_what_may_pass_is_tried_again(server: Server, tmp_path: Path, name: str) -> None:
    server.plan = [RETRYABLE[name], RETRYABLE[name]]
    report = caption(server, tmp_path / "c.json")
    assert len(server.bodies) == 3
    assert server.bodies[0] == server.bodies[2]
    assert report.failed == {}
    assert stored(tmp_path / "c.json") == {image_name(0): {"caption": caption_for(server.images[0])}}


def test_an_image_without_answer_is_given_up_and_the_next_one_asked(server: Server, tmp_path: Path) -> None:
    server.plan = [fails(500)] * 4
    report = caption(server, tmp_path / "c.json", limit=2)
    assert report.failed == {image_name(0): "status 500, 4 times"}
    assert len(server.bodies) == 5
    assert stored(tmp_path / "c.json").keys() == {image_name(1)}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_server_that_is_gone_ends_the_command_and_captions_stay(server: Server, tmp_path: Path, workers: int) -> None:
    caption(server, tmp_path / "c.json", limit=2)
    server.plan = [fails(502)] * 1000
    with pytest.raises(UserError, match=f"{SILENT_IMAGES} images in a row got no answer: status 502"):
        caption(server, tmp_path / "c.json", limit=50, workers=workers)
    assert stored(tmp_path / "c.json").keys() == {image_name(0), image_name(1)}


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if seconds:
            self.slept.append(seconds)

    def limiter(self, per_minute: float | None = None) -> RateLimiter:
        return RateLimiter(per_minute, lambda: self.now, self.sleep)


def test_waits_double_and_a_retry_after_is_kept(server: Server, tmp_path: Path) -> None:
    clock = Clock()
    server.plan = [fails(500), fails(429, retry_after="7"), fails(429, retry_after="soon"), fails(500)]
    caption(server, tmp_path / "c.json", policy=RetryPolicy(retries=4, backoff=0.5), limiter=clock.limiter())
    assert clock.slept == [0.5, 7.0, 2.0, 4.0]


def test_a_retry_after_may_be_a_date(server: Server, tmp_path: Path) -> None:
    clock = Clock()
    past, future = (format_datetime(datetime.now(UTC) + timedelta(hours=hours)) for hours in (-1, 1))
    server.plan = [fails(429, retry_after=past)]
    caption(server, tmp_path / "c.json", limiter=clock.limiter())
    assert clock.slept == []
    server.plan = [fails(429, retry_after=future)]
    with pytest.raises(UserError, match=r"asks to come back in 3[56]\d\d s; run the same command then"):
        caption(server, tmp_path / "d.json", limiter=clock.limiter())


def test_the_rate_spreads_requests_and_counts_retries(server: Server, tmp_path: Path) -> None:
    clock = Clock()
    server.plan = [fails(500)]
    caption(server, tmp_path / "c.json", limit=3, limiter=clock.limiter(per_minute=30))
    assert len(server.bodies) == 4
    assert clock.slept == [2.0, 2.0, 2.0]


FATAL = {
    400: "--temperature none",
    401: "set the key: export SEGSCALE_API_KEY=...",
    403: "check that your key may use writer",
    404: "check --endpoint and --captioner writer",
    307: "check --endpoint",
}


@pytest.mark.parametrize("status", FATAL)
def test_what_will_not_pass_is_asked_once(
    server: Server, tmp_path: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = [fails(status, f"it is about {KEY} in\nthis way")]
    _, line = failing(command(server, tmp_path / "c.json"), capsys)
    assert len(server.bodies) == 1
    assert f"answers {status} (it is about [key] in this way)" in line
    assert FATAL[status] in line
    assert not (tmp_path / "c.json").exists()


REFUSALS: dict[str, Action] = {
    "empty answer": says(""),
    "empty answer (null)": says(None),
    "refused: I'm sorry, I can't help with that.": says("I'm sorry, I can't help with that."),
    "refused: I can\u2019t describe people.": says("I can\u2019t describe people."),
    "refused: not this": says(None, refusal="not this"),
    "refused: content_filter": says("a d", finish="content_filter"),
    "refused: content_policy_violation": fails(400, code="content_policy_violation"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refused_image_is_named_and_asked_again(
    server: Server, tmp_path: Path, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    server.plan = [says("a dog, grass"), REFUSALS[reason]]
    printed, line = failing(command(server, path), capsys)
    assert f"{image_name(1)}              {reason.removesuffix(' (null)')}" in printed
    assert "5 of 6 images have a caption" in printed
    assert "1 of 6 images have no caption; ask again for these: segscale caption --dataset pocket" in line
    assert stored(path).keys() == {image_name(number) for number in (0, 2, 3, 4, 5)}
    assert len(server.bodies) == 6
    main(command(server, path))
    assert len(server.bodies) == 7
    assert server.images[6] == server.images[1]
    assert len(stored(path)) == 6


def test_the_file_does_not_depend_on_workers_or_faults(server: Server, tmp_path: Path) -> None:
    for workers in (1, 2, 7):
        server.plan = [fails(500), resets, raw(b"{")] if workers > 1 else []
        caption(server, tmp_path / f"{workers}.json", limit=20, workers=workers)
    assert list(stored(tmp_path / "1.json")) == [image_name(number) for number in range(20)]
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "7.json").read_bytes()


def test_an_unforeseen_error_in_a_thread_ends_the_command(tmp_path: Path) -> None:
    class Broken(EndpointCaptioner):
        def __call__(self, image: Image.Image, question: str) -> str:
            raise ZeroDivisionError

    data = build("dataset", "pocket")
    with pytest.raises(ZeroDivisionError):
        write_captions(data, Broken("http://127.0.0.1:9", "writer"), tmp_path / "c.json", 20, 6, workers=3)


# Every caption is written at once, so that a kill can fall between any two of them.
PROGRAM = """
import sys
from pathlib import Path
from segscale.bench.captions.endpoint import EndpointCaptioner
from segscale.bench.captions import write
from segscale.registry import build
write.FLUSH_SECONDS = 0
captioner = EndpointCaptioner(sys.argv[1], "writer")
write.write_captions(build("dataset", "pocket"), captioner, Path(sys.argv[2]), 20, 40, 2)
"""


def test_killed_it_resumes_and_asks_about_no_stored_image_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    program = [sys.executable, "-c", PROGRAM, server.url, str(path)]
    seen: set[str] = set()
    for kill_after in (5, 12):
        process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
        while not path.exists() or len(stored(path)) < len(seen) + kill_after:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        seen = {entry["caption"] for entry in stored(path).values()}
        asked = len(server.bodies)
    subprocess.run(program, check=True, stderr=subprocess.DEVNULL)
    assert not seen & {caption_for(image) for image in server.images[asked:]}
    caption(server, tmp_path / "whole.json", limit=40)
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_ctrl_c_does_not_wait_for_answers_and_says_how_to_resume(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    server.plan = [says("a dog"), says("a cat"), *[hangs] * 9]
    arguments = command(server, path, "--workers", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "segscale", *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    while len(server.bodies) < 4:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "stored, resume with: segscale caption --dataset pocket" in errors.splitlines()[-1]
    assert KEY not in errors
    assert len(stored(path)) == 2


def test_the_key_is_nowhere_to_be_seen(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    escaped = completion(f"a note that says {KEY}").replace(b"/", b"\\/")
    server.plan = [says(f"a card, {KEY}"), says(f"I'm sorry, {KEY}"), raw(escaped), fails(403, f"{KEY} may not")]
    failing(command(server, tmp_path / "c.json"), capsys)
    server.plan = [says(None, refusal=f"not with {KEY}")]
    printed, line = failing(command(server, tmp_path / "c.json"), capsys)
    assert server.keys == [f"Bearer {KEY}"] * len(server.keys)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"c.json", "c.origin.json"}
    for text in (printed, line, caplog.text, *(file.read_text() for file in files)):
        assert KEY not in text
        assert KEY.replace("/", "\\/") not in text
    assert stored(tmp_path / "c.json")[image_name(0)]["caption"] == "a card, [key]"


def test_the_key_comes_from_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_from({"OPENAI_API_KEY": "two", "SEGSCALE_API_KEY": "one\n"}) == "one"
    assert key_from({"OPENAI_API_KEY": "two"}) == "two"
    assert key_from({"OPENAI_API_KEY": ""}) is None
    with pytest.raises(UserError, match="SEGSCALE_API_KEY holds characters") as caught:
        key_from({"SEGSCALE_API_KEY": "line\nbreak"})
    assert "break" not in str(caught.value)
    monkeypatch.delenv("SEGSCALE_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    main(command(server, tmp_path / "c.json", "--workers", "2"))
    assert server.keys == [None] * 6


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        captioner = EndpointCaptioner(f"http://127.0.0.1:{free.getsockname()[1]}", "writer", policy=QUICK)
        with pytest.raises(NoCaptionError, match=r"connection failed \(ConnectionError\), 4 times"):
            captioner(Image.new("RGB", (8, 8)), "what?")
