"""The short form of ``make soak``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "soak.py"


def test_killed_processes_lose_no_stored_image_and_store_none_twice() -> None:
    """By itself and with one thread, because it forks."""
    command = [sys.executable, str(SCRIPT), "--seed", "1", "--kills", "3", "--terms", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.stdout.startswith("3 SIGKILL and 2 SIGTERM over ")
    assert "; 0 problems; " in ended.stdout
    assert ended.returncode == 0
