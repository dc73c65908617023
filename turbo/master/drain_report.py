"""Logs which tasks a stopping worker waits for, and what another signal would do.

Runs in the master while it waits for running tasks. It logs at rising intervals, at most :data:`_MOST` tasks per line,
and nothing when the wait is short. It must never decide anything.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.policy.worker_lifecycle import Phase

if TYPE_CHECKING:
    from turbo.master.children.pool import Pool
    from turbo.master.outcome.failure_documents import FailureDocuments

logger = logging.getLogger("turbo.worker")

#: Seconds before the first line, and the longest pause between two; the pause doubles.
_FIRST, _LONGEST = 2.0, 60.0
#: Most tasks named in one line.
_MOST = 5
_SIGNALS = {
    Phase.WARM: "INT or QUIT ends them (cold shutdown), another TERM changes nothing",
    Phase.SOFT: "INT or QUIT ends them now (cold shutdown)",
}


class DrainReport:
    """Reports one wait for running tasks."""

    def __init__(self, pool: Pool, failure_documents: FailureDocuments, phase: Phase, timeout: float | None) -> None:
        """``timeout``: seconds after which the shutdown turns cold; None for never."""
        self._pool = pool
        self._failure_documents = failure_documents
        self._phase = phase
        self._began = time.monotonic()
        self._timeout = timeout
        self._pause = _FIRST
        self._next = self._began + _FIRST

    def look(self) -> None:
        """Log a line when one is due."""
        now = time.monotonic()
        if now < self._next:
            return
        self._pause = min(2 * self._pause, _LONGEST)
        self._next = now + self._pause
        names = self._running()
        if not names:
            return
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        left = ""
        if self._timeout is not None:
            left = f"; the shutdown turns cold in {max(0.0, self._began + self._timeout - now):.0f} s"
        logger.warning(
            "Waiting for %d running task%s: %s%s. %s%s",
            len(names),
            "" if len(names) == 1 else "s",
            ", ".join(names[:_MOST]),
            more,
            _SIGNALS.get(self._phase, ""),
            left,
        )

    def _running(self) -> list[str]:
        names = []
        for child in self._pool.children.values():
            running = child.link.page.running()
            for seq, delivery in (*child.assigned.items(), *child.parked.items()):
                if delivery.state is not State.STARTED:
                    continue
                message = self._failure_documents.message(delivery)
                since = ""
                if running is not None and running.seq == seq:
                    since = f" (for {(time.monotonic_ns() - running.started_ns) / 1e9:.0f} s)"
                names.append(f"{message.label if message else '(unreadable)[?]'}{since}")
        return names
