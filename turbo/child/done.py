"""Writes the DONE record, with which a child ends every message that it was given.

Runs in a child, after ``child.endings`` (tasks that ran) and ``child.refusals`` (messages that did not). Exactly one
DONE is written for each TASK record, unless the process ends.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.child.reporting import Reporter
    from turbo.policy.settling import Ending, Verb
    from turbo.ring.link import ChildLink


class DoneRecords:
    """Writes the DONE records of one child."""

    def __init__(self, link: ChildLink, reporter: Reporter) -> None:
        self._link = link
        self._reporter = reporter

    def write(  # hot: bench drain
        self,
        seq: int,
        began: int,
        verb: Verb,
        ending: Ending,
        *,
        store: bytes = b"",
        due_ns: int = 0,
        payload: bytes = b"",
    ) -> None:
        """Write one DONE record. It is signalled with the next claim, or when nothing can be claimed.

        ``began`` is the ``time.monotonic_ns`` of the claim; ``due_ns`` goes with the verb HOLD. ``payload`` is for the
        master's outcome hooks, which may call the app and override the verb; ``store`` must then be empty.
        """
        reporter = self._reporter
        share = reporter.share
        if share.held:
            reporter.release()
        flags = frames.FOR_HOOKS if payload else 0
        runtime = monotonic_ns() - began
        done = frames.pack_done(verb, ending, flags, share.published, runtime, due_ns, store or payload)
        reporter.begin(0)
        self._link.emit(frames.DONE, seq, (done,))
        if failpoint.ENABLED:
            failpoint.hit("child.result_written")
