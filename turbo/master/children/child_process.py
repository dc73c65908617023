"""One child as the master sees it: process, link, deliveries that it holds.

Runs in the master. ``master.children.pool`` makes and ends these; ``master.delivery.dispatcher`` gives them work;
``master.outcome.outcomes`` removes finished work. It must never do I/O beyond the link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.policy import child_lifecycle
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.time_limits import RunningClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.master.delivery.ledger import Delivery
    from turbo.ring.link import MasterLink


class ChildProcess:
    """One incarnation of one slot. Every field is written by the master alone."""

    __slots__ = (
        "_on_corrupt",
        "abandoned",
        "assigned",
        "done",
        "epoch",
        "exit_status",
        "free_listed",
        "index",
        "kill_detail",
        "kill_reason",
        "leaving_clock",
        "limited",
        "link",
        "moved_ns",
        "parked",
        "partial_listed",
        "peak_rss_kib",
        "pid",
        "pidfd",
        "probe",
        "replaced",
        "rss_kib",
        "silent",
        "spawned_at",
        "state",
        "stopping",
        "stopping_since",
    )

    def __init__(
        self, index: int, epoch: int, link: MasterLink, now: float, on_corrupt: Callable[[ChildProcess, str], None]
    ) -> None:
        """``on_corrupt``: called with this child and why one of its rings is corrupt."""
        self._on_corrupt = on_corrupt
        self.index = index
        self.epoch = epoch
        self.link = link
        self.state = ChildState.STARTING
        self.pid = 0
        self.pidfd = -1
        self.spawned_at = now
        #: seq -> delivery, in the order given; the first is the running one or the next to run.
        self.assigned: dict[int, Delivery] = {}
        #: seq -> delivery of the tasks running beside others: coroutines, and functions in threads.
        self.parked: dict[int, Delivery] = {}
        #: Sequences of tasks that have been ended while their threads go on; what they report is dropped.
        self.abandoned: set[int] = set()
        #: Sequence of the task for whose hard limit or termination the child was killed; 0 for none.
        self.limited = 0
        #: Number of tasks ended by this incarnation.
        self.done = 0
        self.rss_kib = 0
        self.peak_rss_kib = 0
        #: ``time.monotonic_ns`` of the last sign of progress: a started or done record.
        self.moved_ns = 0
        #: Whether the child is in the dispatcher's list of free children, and in that of busy ones with room.
        self.free_listed = False
        self.partial_listed = False
        #: Whether and when a STOP record was staged, by ``time.monotonic_ns`` less the time the worker was stopped.
        self.stopping = False
        self.stopping_since = 0
        self.leaving_clock = RunningClock()
        #: It held work at the last check of ``master.children.stalled_children`` and has reported nothing since.
        self.silent = False
        #: Sequence of the PROBE record given to a stalled child; 0 for none.
        self.probe = 0
        #: Whether a replacement for this retiring child was requested.
        self.replaced = False
        self.exit_status: int | None = None
        #: Why the master killed it, which decides its task's outcome. Empty when it died by itself.
        self.kill_reason = ""
        #: Details of that reason: the limit in seconds, or the memory figures.
        self.kill_detail: object = None

    def move(self, new: ChildState) -> None:
        """Go to ``new`` along ``policy.child_lifecycle``."""
        self.state = child_lifecycle.check(self.state, new)

    def condemn(self, reason: str) -> None:
        """Have this child replaced, because one of its rings is corrupt."""
        self._on_corrupt(self, reason)

    @property
    def serving(self) -> bool:
        """Whether it may be given work."""
        return self.state is ChildState.SERVING

    @property
    def is_leaving(self) -> bool:
        """Whether it has nothing left to run and is about to end normally."""
        return self.state is ChildState.RETIRING and not self.assigned and not self.parked

    def holding(self, seq: int) -> Delivery | None:
        """The delivery of a record that this child holds, or None."""
        return self.assigned.get(seq) or self.parked.get(seq)

    @property
    def head(self) -> tuple[int, Delivery] | None:
        """The oldest record that it holds: the running one, if any runs."""
        for item in self.assigned.items():
            return item
        return None
