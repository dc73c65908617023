"""The exceptions that the scenarios' tasks raise."""

from __future__ import annotations

import threading


class OwnError(Exception):
    """A user-defined exception with two arguments."""


class PickyError(Exception):
    """An exception whose constructor has other parameters than ``args``, so it cannot be unpickled."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code, self.why = code, why


class LockedError(Exception):
    """An exception with an attribute that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Outer:
    class NestedError(LookupError):
        """Defined within a class."""


class ExpectedError(Exception):
    """An exception that tasks list in ``throws``."""
