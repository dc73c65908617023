"""Formats values as short text for ``argsrepr``, ``kwargsrepr``, logs and events.

Before it: a call's arguments. After it: the message's headers, and a worker's log lines and events. Runs in clients and
children. Pure. Length and depth are limited; values that contain themselves or whose ``repr`` raises are safe. The text
must never contain control characters, which could forge log lines.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Control characters and line separators -> escapes. All other characters stay.
_ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    0x09: "\\t",
    0x0A: "\\n",
    0x0D: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def saferepr(obj: object, maxlen: int = 1024, maxlevels: int = 3) -> str:
    """Return text like ``repr(obj)``, with about ``maxlen`` characters at most.

    Containers deeper than ``maxlevels`` become ``[...]``; 0 means any depth (up to 100). Shortened values end in
    ``...`` and still close their brackets. Text is always in single quotes, as in Celery.
    """
    if obj == () and type(obj) is tuple:
        return "()"
    if type(obj) is dict and not obj:
        return "{}"
    writer = _Writer(maxlen, maxlevels or 100)
    writer.write(obj, 0)
    return "".join(writer.parts)


class _Writer:
    """Writes one value within a limit of characters."""

    __slots__ = ("left", "levels", "parts", "within")

    def __init__(self, maxlen: int, levels: int) -> None:
        self.parts: list[str] = []
        self.left = maxlen
        self.levels = levels
        #: ``id()`` of each container that is being written.
        self.within: set[int] = set()

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.left -= len(text)

    def write(self, value: object, level: int) -> None:
        if isinstance(value, str):
            self._put(f"'{self._cut(value)}'")
        elif value is None or isinstance(value, bool):
            self._put(str(value))
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self._container(value, level)
        elif isinstance(value, bytes):
            self._put(f"b'{self._cut(_readable(value[: max(self.left, 0) + 1]))}'")
        else:
            self._put(clean(shown(value), max(self.left, 0)))

    def _cut(self, text: str) -> str:
        room = max(self.left, 0)
        if len(text) > room:
            text = text[:room] + "..."
        return _printable(text).replace("'", "\\'")

    def _container(
        self, value: list[object] | tuple[object, ...] | dict[object, object] | set[object] | frozenset[object],
        level: int,
    ) -> None:  # fmt: skip
        opening, closing = _brackets(value)
        if not value and isinstance(value, (set, frozenset)):
            self._put(f"{type(value).__name__}()")
        elif level >= self.levels:
            self._put(f"{opening}...{closing}")
        elif id(value) in self.within:
            self._put(f"<Recursion on {type(value).__name__} with id={id(value)}>")
        else:
            self.within.add(id(value))
            self._put(opening)
            self._items(value.items() if isinstance(value, dict) else ((None, v) for v in value), level,
                        isinstance(value, dict))  # fmt: skip
            self._put(closing)
            self.within.discard(id(value))

    def _items(self, items: Iterable[tuple[object, object]], level: int, keyed: bool) -> None:
        first = True
        for key, value in items:
            if self.left <= 0:
                self.parts.append("..." if first else ", ...")
                return
            if not first:
                self._put(", ")
            first = False
            if keyed:
                self.write(key, level + 1)
                self._put(": ")
            self.write(value, level + 1)


def _brackets(value: object) -> tuple[str, str]:
    """Return opening and closing text.

    As in Celery, subclasses of list and set are named, not tuples and dicts.
    """
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if isinstance(value, dict):
        return "{", "}"
    opening, closing, plain = ("[", "]", list) if isinstance(value, list) else ("{", "}", set)
    if type(value) is plain:
        return opening, closing
    return f"{type(value).__name__}({opening}", f"{closing})"


def shown(value: object) -> str:
    """Return the value's repr (``str`` for numbers).

    A repr that raises gives a placeholder.
    """
    try:
        if isinstance(value, Number) and not isinstance(value, Decimal):
            return str(value)
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<Unrepresentable {type(value).__name__}: {type(error).__name__}>"


def _readable(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def clean(text: str, maxlen: int) -> str:
    """Return text for a log line: ``maxlen`` at most, no control characters."""
    return _printable(text if len(text) <= maxlen else text[:maxlen] + "...")
