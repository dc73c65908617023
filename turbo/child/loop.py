"""The child's loop: claim, execute, report, sleep.

Runs in a child. Before it: ``child.main``. After it: the executor, for every TASK record. It ends with a STOP
record, which the master sends when the child is to be replaced or the worker stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.ring.link import ChildLink


class Executor(Protocol):
    """The seam between the loop and the two kinds of app."""

    def execute(self, seq: int, payload: bytes) -> None:
        """Handle one TASK record to its DONE record; return with nothing raised."""

    @property
    def has_room(self) -> bool:
        """Whether another record may be claimed now."""

    def rest(self) -> None:
        """Nothing can be claimed: run what is under way, or sleep, until that may have changed."""

    def leave(self, *, replaced: bool) -> None:
        """The child ends in order: finish what is under way. ``replaced``: the worker goes on."""


def run(link: ChildLink, executor: Executor, put_back_signals: Callable[[], None]) -> None:
    """Serve until told to stop. ``put_back_signals`` is called before each rest."""
    claim, execute, rest = link.claim, executor.execute, executor.rest
    while True:
        record = claim() if executor.has_room else None
        if record is None:
            put_back_signals()
            rest()
            continue
        kind, seq, payload = record
        if kind == frames.TASK:
            execute(seq, payload)
        elif kind in (frames.STOP, frames.MAKE_ROOM):
            link.signal()
            executor.leave(replaced=kind == frames.MAKE_ROOM)
            return
        # Anything else is a PROBE: to have claimed it is the answer.
