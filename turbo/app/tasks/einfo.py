"""``einfo``: an exception as handlers and receivers are given it.

Made in the child for what a body raised, in the master for a task that ended with its child. It carries the names that
billiard's class of this name has.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class UnpicklableError(Exception):
    """Stands for an exception that cannot be carried to another process. Its text is that one's repr."""


class ExceptionInfo:
    """An exception with its traceback, as objects and as text. Its ``str`` is the text."""

    #: What was raised, and its class.
    exception: Any
    type: Any
    #: The traceback object, None where the exception was raised in another process.
    tb: TracebackType | None
    #: The traceback as the interpreter would print it.
    traceback: str

    def __init__(self, error: BaseException, trace: str | None = None, *, internal: bool = False) -> None:
        """``trace`` is the text, made from the exception unless given; ``internal``: no fault of the task's."""
        self.exception = error
        self.type = type(error)
        self.tb = error.__traceback__
        self.traceback = "".join(traceback.format_exception(error)) if trace is None else trace
        self.internal = internal

    @property
    def exc_info(self) -> tuple[Any, Any, Any]:
        """Class, exception and traceback object, as ``logging`` takes them."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Traceback objects do not travel."""
        return _restored, (self.exception, self.traceback, self.internal)


def _restored(error: BaseException, trace: str, internal: bool) -> ExceptionInfo:
    return ExceptionInfo(error, trace, internal=internal)
