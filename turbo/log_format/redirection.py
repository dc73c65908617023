"""Makes log records of what a process prints.

This stream stands in for ``sys.stdout`` and ``sys.stderr``.

Installed in children as they start, around the master of a native app, and by tasks that ask ``app.log`` for it. It
must never write to the streams it replaces: what logging itself prints while it logs is dropped.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

#: What tasks print is logged here.
REDIRECTED_LOGGER: Final = "celery.redirected"
_STDERR: Final = 2


class RedirectedStream(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr``: logs each line.

    It has all that a text stream has; reading and seeking raise io.UnsupportedOperation, as with any output.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    mode = "w"
    name = None
    closed = False
    line_buffering = True
    write_through = True

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        #: Whether this thread logs what it has written.
        self._here = threading.local()

    def write(self, text: str) -> int:
        """Log the lines of ``text``.

        What logging itself writes while it does so is dropped.
        """
        if getattr(self._here, "inside", False):
            return 0
        self._here.inside = True
        try:
            for line in text.rstrip().splitlines():
                if line.strip():
                    self._logger.log(self._level, "%s", line)
        finally:
            self._here.inside = False
        return len(text)

    @property
    def buffer(self) -> RedirectedBytes:
        """The stream of bytes beneath, for programs that write bytes."""
        return RedirectedBytes(self)

    def reconfigure(self, **_options: object) -> None:
        """Programs may ask for another encoding or buffering: records have neither."""

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Programs may try; the stream stays."""

    def isatty(self) -> bool:
        """Never a terminal."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor that log lines go to by default, for programs that must have one."""
        return _STDERR


class RedirectedBytes(io.BufferedIOBase):
    """The ``buffer`` of a redirected stream: bytes are taken for UTF-8 text."""

    mode = "wb"
    name = None
    closed = False

    def __init__(self, text: RedirectedStream) -> None:
        self._text = text

    @property
    def raw(self) -> RedirectedBytes:
        """Itself: there is no buffer."""
        return self

    def write(self, data: Buffer) -> int:
        """Log the lines of ``data``."""
        content = bytes(data)
        self._text.write(content.decode(self._text.encoding, self._text.errors))
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Programs may try; the stream stays."""

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """As the text stream has it."""
        return self._text.fileno()


@contextlib.contextmanager
def redirected(level: int | None) -> Iterator[None]:
    """Within this, what the process prints becomes log records of ``level``.

    None changes nothing.
    """
    if level is None:
        yield
        return
    before = sys.stdout, sys.stderr
    redirect_stdouts(level)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def redirect_stdouts(level: int = logging.WARNING, logger: logging.Logger | None = None) -> None:
    """Turn what this process prints into records of ``celery.redirected``."""
    stream = RedirectedStream(logger or logging.getLogger(REDIRECTED_LOGGER), level)
    sys.stdout = stream
    sys.stderr = stream
