"""The child's loop: claims records, runs them, sleeps when there is none.

Runs in a child. Before it: ``child.main``. After it: the executor, for every TASK record. The loop ends with a STOP
record (the worker stops) or a MAKE_ROOM record (the child is being replaced). It must never decode a record's payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.ring.link import ChildLink


class Executor(Protocol):
    """Runs the records of one kind of app.

    The interface between the loop and both kinds.
    """

    def execute(self, seq: int, payload: bytes) -> None:
        """Handle one TASK record up to its DONE record; raise nothing."""

    def execute_batch(self, seq: int, payload: bytes) -> None:
        """Handle one BATCH record up to its messages' DONE records; raise nothing."""

    @property
    def has_room(self) -> bool:
        """Whether another record may be claimed now."""

    def rest(self) -> None:
        """Run the coroutines under way, or sleep, until a record may be claimed."""

    def leave(self, *, replaced: bool) -> None:
        """Finish the tasks under way before the child exits.

        ``replaced``: the worker goes on without it.
        """


def run(link: ChildLink, executor: Executor, restore_signals: Callable[[], None]) -> None:
    """Serve until a STOP or MAKE_ROOM record.

    ``restore_signals`` is called before each rest: a task may have changed them (see ``child.own_signals``).
    """
    claim, execute, rest = link.claim, executor.execute, executor.rest
    while True:
        record = claim() if executor.has_room else None
        if record is None:
            restore_signals()
            rest()
            continue
        kind, seq, payload = record
        if kind == frames.TASK:
            execute(seq, payload)
        elif kind == frames.BATCH:
            executor.execute_batch(seq, payload)
        elif kind in (frames.STOP, frames.MAKE_ROOM):
            link.signal()
            executor.leave(replaced=kind == frames.MAKE_ROOM)
            return
        # Anything else is a PROBE: claiming it is itself the reply.
