"""Which tasks were revoked: ids and stamps, so many and for so long.

Kept by ``master.revoking``; pure, the time is an argument (monotonic seconds). An id is forgotten once it is older
than the set's span, and the oldest ones go first when there are too many: a revoke is a request to this worker, not a
record for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Ids remembered at once.
MOST: Final = 50_000
#: Seconds that an id is remembered.
SPAN: Final = 10_800.0
#: Values remembered of all stamps together.
MOST_STAMPS: Final = 10_000


class Revoked:
    """The ids and the stamps. ``any`` is True while there is something to look for."""

    __slots__ = ("_most", "_span", "_stamps", "_times", "any")

    def __init__(self, most: int = MOST, span: float = SPAN) -> None:
        """``most`` ids, each for ``span`` seconds; 0 seconds is for ever."""
        self._most = most
        self._span = span
        #: In the order of their revoking.
        self._times: dict[str, float] = {}
        self._stamps: dict[str, list[Any]] = {}
        self.any = False

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._times

    def __len__(self) -> int:
        return len(self._times)

    def add(self, task_ids: Iterable[str], now: float) -> None:
        """Revoke; an id that is revoked again counts from now."""
        for task_id in task_ids:
            self._times.pop(task_id, None)
            self._times[task_id] = now
        self.purge(now)

    def purge(self, now: float) -> None:
        """Forget what is too old or too much."""
        times = self._times
        while times:
            oldest = next(iter(times))
            if len(times) <= self._most and not (self._span and times[oldest] + self._span <= now):
                break
            del times[oldest]
        self._note()

    def ids(self) -> list[str]:
        """All ids, the oldest first."""
        return list(self._times)

    def add_stamps(self, stamps: Mapping[str, Any]) -> None:
        """Revoke by stamps: values by the name of the header. Raises ValueError when there are too many."""
        new = {name: value if isinstance(value, list) else [value] for name, value in stamps.items()}
        if sum(map(len, (*self._stamps.values(), *new.values()))) > MOST_STAMPS:
            raise ValueError(f"more than {MOST_STAMPS} stamps would be revoked")
        for name, values in new.items():
            self._stamps.setdefault(name, []).extend(values)
        self._note()

    @property
    def has_stamps(self) -> bool:
        """Whether messages' stamps have to be looked at."""
        return bool(self._stamps)

    def stamp_of(self, names: Iterable[str] | None, stamps: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The first stamp of a message that was revoked, by its header's name; None when none was."""
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
