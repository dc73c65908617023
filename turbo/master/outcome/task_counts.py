"""How many tasks of each name children have begun.

Runs in the master: ``master.outcome.outcomes`` counts, ``control.inspect_commands`` reads. It is on every task's way:
the name is not even cut out: the piece of the header that ends with it is the key, where the header begins as Celery's
do.
"""

from __future__ import annotations

from turbo.protocol.peek import NAME_AT, NAME_FROM, NAME_MARK, task_name

#: Names that are counted one by one: they come from the wire.
_MOST = 10_000
_LENGTH_AT = NAME_AT - 1


class TaskCounts:
    """Counts by name."""

    __slots__ = ("_names", "_pieces")

    def __init__(self) -> None:
        #: The one entry of each list is the count of a name, which both mappings share.
        self._names: dict[bytes, list[int]] = {}
        self._pieces: dict[bytes, list[int]] = {}

    def count(self, header: bytes) -> None:  # hot: bench drain
        """One task with this content header was begun."""
        try:
            self._pieces[header[NAME_FROM : NAME_AT + header[_LENGTH_AT]]][0] += 1
        except (KeyError, IndexError):
            self._count_name(header)

    def _count_name(self, header: bytes) -> None:
        """The first of a name, or one whose header begins in another way."""
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
        """The counts."""
        return {name.decode("utf-8", "replace"): cell[0] for name, cell in self._names.items()}
