"""The one kind of error a user is meant to see."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake or a missing thing.

    Shown as a single line ``what; next``, without traceback, exit status 2.
    ``what`` says what is wrong and where, ``next`` the next command or thing to try.
    """

    def __init__(self, what: str, next: str = "") -> None:
        super().__init__(f"{what}; {next}" if next else what)
        self.what = what
