"""The one kind of error a user is meant to see."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake or a missing thing.

    Shown as a single line ``problem; hint``, without traceback, exit status 2.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        """Say what is wrong and where, and the next command or thing to try."""
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint
