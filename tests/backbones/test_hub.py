"""A hub on loopback that refuses: what a user reads is one line with the next command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "stabilityai/stable-diffusion-3-medium-diffusers"
SHA = "0" * 40


@contextmanager
def hub(metadata: tuple[int, str], files: tuple[int, str]) -> Iterator[str]:
    """A server that answers for the model's metadata and its files with a status and the hub's error code."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, code = files if "/resolve/" in self.path else metadata
            siblings = [{"rfilename": name} for name in ("model_index.json", "vae/config.json")]
            body = json.dumps({"id": REPOSITORY, "sha": SHA, "siblings": siblings}).encode() if status == 200 else b""
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def refused(endpoint: str, tmp_path: Path) -> str:
    """The last line of a run that must fail."""
    process = subprocess.run(
        [sys.executable, "-m", "segscale", "run", "--backbone", "sd3", "--results", str(tmp_path)],
        env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "Retry" not in process.stderr
    return process.stderr.strip().splitlines()[-1]


def test_gated_weights_name_the_licence_page_and_the_login(tmp_path: Path) -> None:
    with hub((200, ""), (403, "GatedRepo")) as endpoint:
        line = refused(endpoint, tmp_path)
    assert line == (
        f"segscale: error: {REPOSITORY} is gated; "
        f"accept its licence at https://huggingface.co/{REPOSITORY}, then: hf auth login"
    )


def test_a_model_that_is_not_there_or_not_for_you(tmp_path: Path) -> None:
    with hub((404, "RepoNotFound"), (404, "RepoNotFound")) as endpoint:
        assert f"the hub has no model {REPOSITORY}, or not for you" in refused(endpoint, tmp_path)


def test_a_hub_that_is_out_of_reach(tmp_path: Path) -> None:
    line = refused("http://127.0.0.1:9", tmp_path)
    assert f"{REPOSITORY} is not in the cache, and the hub was not reached; try: hf download {REPOSITORY}" in line
