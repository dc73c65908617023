"""Finds the value for a message's task by the bytes that name it.

They are in the content header.

Used in the master for every message while a task is limited in some way. It must never decode headers: the bytes up to
the end of the name are the key, if the header begins as Celery's do; ``protocol.peek`` finds the name in all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from turbo.protocol.peek import NAME_AT, NAME_FROM, NAME_MARK, task_name

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: The most names that are remembered: they come from the wire.
_MOST = 10_000
_LENGTH_AT = NAME_AT - 1


class TaskLookup(Generic[T]):
    """Values by the name of a task; most tasks have none."""

    __slots__ = ("_names", "_pieces")

    def __init__(self) -> None:
        self._names: dict[bytes, T] = {}
        #: The value, or None, by the piece of a header that names the task.
        self._pieces: dict[bytes, T | None] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._names.values()))

    def put(self, task: str, value: T | None) -> None:
        """Set the value of a task; None removes it."""
        name = task.encode("utf-8", "surrogateescape")
        if value is None:
            self._names.pop(name, None)
        else:
            self._names[name] = value
        self._pieces.clear()

    def named(self, task: str) -> T | None:
        """Return the value of the task with this name."""
        return self._names.get(task.encode("utf-8", "surrogateescape"))

    def find(self, header: bytes) -> T | None:
        """Return the value of the task that this content header names.

        None if it has none or names none.
        """
        try:
            return self._pieces[header[NAME_FROM : NAME_AT + header[_LENGTH_AT]]]
        except (KeyError, IndexError):
            return self._find_name(header)

    def _find_name(self, header: bytes) -> T | None:
        """Look up a name for the first time, or a header that begins in another way."""
        name = task_name(header)
        if name is None:
            return None
        value = self._names.get(name)
        piece = header[NAME_FROM : NAME_AT + len(name)]
        if len(name) < 256 and piece.startswith(NAME_MARK) and piece.endswith(name) and len(self._pieces) < _MOST:
            self._pieces[piece] = value
        return value
