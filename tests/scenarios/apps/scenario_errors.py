"""Exceptions that the scenarios' tasks raise."""

from __future__ import annotations

import threading


class OwnError(Exception):
    """Of the user's own, with two arguments."""


class PickyError(Exception):
    """Its constructor takes other arguments than it keeps, so pickle cannot make it again."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code, self.why = code, why


class LockedError(Exception):
    """Has something with it that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Outer:
    class NestedError(LookupError):
        """Defined within a class."""


class ExpectedError(Exception):
    """What tasks name in ``throws``."""
