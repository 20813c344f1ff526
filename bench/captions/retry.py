"""When requests of all threads may start, and how often and how late a failed one is repeated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from segscale.errors import UserError

from .captioner import NoCaptionError


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try, in seconds."""

    timeout: float = 120.0
    """Silence within one request after which it has failed."""
    retries: int = 5
    backoff: float = 1.0
    """Wait before the first retry; it doubles before each further one."""
    longest_wait: float = 600.0
    """The longest Retry-After of a server that is waited for."""


class RateLimiter:
    """Spreads the requests of all threads evenly, at most ``per_minute``; None lets them start at once."""

    def __init__(
        self,
        per_minute: float | None = None,
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
        """Let no request start within the next ``seconds``."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class RetryableError(Exception):
    """A failure that the next attempt may not have."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.seconds = _seconds(retry_after)
        """The wait that the server asked for."""


def _seconds(retry_after: str | None) -> float | None:
    """The wait in a Retry-After header, which holds seconds or a date; None where it says nothing."""
    try:
        return None if retry_after is None else Retry().parse_retry_after(retry_after)
    except InvalidHeader:
        return None


def with_retries(request: Callable[[], str], policy: RetryPolicy, limiter: RateLimiter) -> str:
    """The result of ``request``, repeated while it raises RetryableError.

    Raises:
        NoCaptionError: All attempts failed.
        UserError: The server asks for a wait that is too long.
    """
    attempt = 0
    while True:
        limiter.wait()
        try:
            return request()
        except RetryableError as failure:
            if attempt == policy.retries:
                raise NoCaptionError(f"{failure}, {attempt + 1} times", refused=False) from failure
            _wait(failure, policy.backoff * 2**attempt, policy.longest_wait, limiter)
            attempt += 1


def _wait(failure: RetryableError, backoff: float, longest: float, limiter: RateLimiter) -> None:
    """Wait as the server says, for all threads, else for ``backoff``."""
    if failure.seconds is None:
        limiter.sleep(backoff)
    elif failure.seconds <= longest:
        limiter.hold(failure.seconds)
    else:
        problem = f"the endpoint asks to come back in {failure.seconds:.0f} s"
        raise UserError(problem, "run the same command then") from failure
