"""Signals by which schedulers and closed terminals end a command, as an exception that lets it store what it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""What schedulers send before they kill; SLURM the last two where it is asked to (``--signal``)."""
SIGNALS = tuple(signal.Signals[name] for name in NAMES if name in signal.Signals.__members__)


class Terminated(BaseException):
    """A signal asked the command to end. As an interrupt, it is no error that a program would mend."""

    def __init__(self, number: int) -> None:
        """Keep which signal it was."""
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)

    @property
    def status(self) -> int:
        """The exit status that shells and launchers expect."""
        return 128 + self.signal


@contextmanager
def terminable() -> Iterator[None]:
    """Raise ``Terminated`` at the first signal; later ones do not disturb what is being stored.

    A signal that something else handles, or that nohup ignores, is left alone.
    """
    own = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        own = []
    for number in own:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Terminated(number)
