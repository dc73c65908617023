"""Counts the tasks that children have started, by name.

Runs in the master: ``master.outcome.outcomes`` counts, ``control.inspect_commands`` reads. It runs for every task, so
it must never parse a header: the header's bytes up to the end of the name are the key, if it begins as Celery's do.
"""

from __future__ import annotations

from turbo.protocol.peek import NAME_AT, NAME_FROM, NAME_MARK, task_name

#: The most names that are counted separately: they come from the wire.
_MOST = 10_000
_LENGTH_AT = NAME_AT - 1


class TaskCounts:
    """Counts by name."""

    __slots__ = ("_names", "_pieces")

    def __init__(self) -> None:
        #: Each list has one entry, the count of a name; both mappings share the lists.
        self._names: dict[bytes, list[int]] = {}
        self._pieces: dict[bytes, list[int]] = {}

    def count(self, header: bytes) -> None:  # hot: bench drain
        """Count one started task with this content header."""
        try:
            self._pieces[header[NAME_FROM : NAME_AT + header[_LENGTH_AT]]][0] += 1
        except (KeyError, IndexError):
            self._count_name(header)

    def _count_name(self, header: bytes) -> None:
        """Count the first task of a name, or one whose header begins in another way."""
        name = task_name(header) or b"?"
        cell = self._names.get(name)
        if cell is None:
            if len(self._names) >= _MOST:
                return
            cell = self._names[name] = [0]
        cell[0] += 1
        piece = header[NAME_FROM : NAME_AT + len(name)]
        if len(name) < 256 and piece.startswith(NAME_MARK) and piece.endswith(name):
            self._pieces[piece] = cell

    def by_name(self) -> dict[str, int]:
        """Return the counts."""
        return {name.decode("utf-8", "replace"): cell[0] for name, cell in self._names.items()}
