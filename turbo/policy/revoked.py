"""Remembers revoked task ids and stamps, limited in number and time.

Kept by ``master.delivery.revoking``; pure, the time is an argument (monotonic seconds). An id is forgotten after the
set's span, and the oldest ids first when there are too many. It must never grow without bound: a revoke is a request to
this worker, not a permanent record.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: Most ids remembered at once.
MOST: Final = 50_000
#: Seconds that an id is remembered.
SPAN: Final = 10_800.0
#: Most values remembered, over all stamps.
MOST_STAMPS: Final = 10_000


class Revoked:
    """The revoked ids and stamps. ``any`` is True when there are some."""

    __slots__ = ("_most", "_span", "_stamps", "_times", "any")

    def __init__(self, most: int = MOST, span: float = SPAN) -> None:
        """``most`` ids, each for ``span`` seconds; 0 seconds is for ever."""
        self._most = most
        self._span = span
        #: In order of revocation. A plain dict finds its first key by a search through all that were removed.
        self._times: OrderedDict[str, float] = OrderedDict()
        self._stamps: dict[str, _Values] = {}
        self.any = False

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._times

    def __len__(self) -> int:
        return len(self._times)

    def add(self, task_ids: Collection[str], now: float) -> None:
        """Revoke ids; a repeated one counts from now. Only the last ``most`` ids count.

        So this takes no longer for a larger message than for one of that many ids.
        """
        times = self._times
        for task_id in list(task_ids)[-self._most :] if len(task_ids) > self._most else task_ids:
            times[task_id] = now
            times.move_to_end(task_id)
        self.purge(now)

    def purge(self, now: float) -> None:
        """Forget ids that are too old or too many."""
        times, surplus = self._times, len(self._times) - self._most
        gone: list[str] = []
        for task_id, when in times.items():
            if len(gone) >= surplus and not (self._span and when + self._span <= now):
                break
            gone.append(task_id)
        for task_id in gone:
            del times[task_id]
        self._note()

    def ids(self) -> list[str]:
        """All ids, the oldest first."""
        return list(self._times)

    def add_stamps(self, stamps: Mapping[str, Any]) -> None:
        """Revoke by stamps: values by the name of the header.

        Raises ValueError when there are too many.
        """
        new = {name: value if isinstance(value, list) else [value] for name, value in stamps.items()}
        if sum(map(len, self._stamps.values())) + sum(map(len, new.values())) > MOST_STAMPS:
            raise ValueError(f"more than {MOST_STAMPS} stamps would be revoked")
        for name, values in new.items():
            self._stamps.setdefault(name, _Values()).add(values)
        self._note()

    @property
    def most(self) -> int:
        """The most ids remembered at once."""
        return self._most

    @property
    def has_stamps(self) -> bool:
        """Whether messages' stamps must be checked."""
        return bool(self._stamps)

    def stamp_of(self, names: Iterable[str] | None, stamps: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return the first revoked stamp of a message, by header name.

        None when there is none.
        """
        for name in names or ():
            revoked = self._stamps.get(name)
            value = (stamps or {}).get(name)
            if revoked is None or value is None:
                continue
            for one in value if isinstance(value, (list, tuple)) else (value,):
                if one in revoked:
                    return {name: one}
        return None

    def _note(self) -> None:
        self.any = bool(self._times or self._stamps)


class _Values:
    """The revoked values of one stamp.

    Only values without a hash take longer to find the more there are.
    """

    __slots__ = ("_found", "_others", "_size")

    def __init__(self) -> None:
        self._found: set[Any] = set()
        self._others: list[Any] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, value: object) -> bool:
        try:
            return value in self._found
        except TypeError:
            return value in self._others

    def add(self, values: Iterable[Any]) -> None:
        for value in values:
            self._size += 1
            try:
                self._found.add(value)
            except TypeError:
                self._others.append(value)
