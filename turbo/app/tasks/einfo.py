"""``ExceptionInfo``: the ``einfo`` argument of handlers and signal receivers.

Made in the child when a body raises, in the master when a task's child died. Its attributes have the names that
billiard's class of the same name uses.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class UnpicklableError(Exception):
    """Replaces an exception that cannot be pickled.

    Its text is the repr of the original.
    """


class ExceptionInfo:
    """An exception with its traceback, as objects and as text.

    Its ``str`` is the text.
    """

    #: The exception and its class.
    exception: Any
    type: Any
    #: The traceback object; None when the exception was raised in another process.
    tb: TracebackType | None
    #: The traceback as text, in the interpreter's format.
    traceback: str

    def __init__(self, error: BaseException, trace: str | None = None, *, internal: bool = False) -> None:
        """``trace`` is the traceback text (default: that of ``error``).

        ``internal`` means that the task did not cause the error.
        """
        self.exception = error
        self.type = type(error)
        self.tb = error.__traceback__
        self.traceback = "".join(traceback.format_exception(error)) if trace is None else trace
        self.internal = internal

    @property
    def exc_info(self) -> tuple[Any, Any, Any]:
        """Class, exception and traceback object, as ``logging`` expects them."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the traceback object, which cannot be pickled."""
        return _restored, (self.exception, self.traceback, self.internal)


def _restored(error: BaseException, trace: str, internal: bool) -> ExceptionInfo:
    return ExceptionInfo(error, trace, internal=internal)
