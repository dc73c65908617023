"""The record of every unsettled delivery: its message, its state and its child.

Runs in the master. Before it: ``master.delivery.intake`` registers what the broker delivered. After it: the dispatcher,
the outcomes and the death of children move deliveries along ``policy.delivery_lifecycle``. The rings only transport
messages; these records store them, so the death of a child loses nothing.

A delivery tag is valid only within its epoch (one life of the consume connection). When an epoch ends,
:meth:`Ledger.void_epoch` returns all its deliveries, and none of them may ever be acknowledged again.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from turbo.policy.delivery_lifecycle import TRANSITIONS, IllegalTransition, State
from turbo.policy.finishing import NO_FACTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from turbo.policy.finishing import Facts
    from turbo.protocol.message import TaskMessage
    from turbo.ring.frames import StoreRequest


#: Epoch of a delivery that lost its tag while its session lives; never the epoch of a session.
VOID_EPOCH: Final = -1


class Delivery:
    """One message from its receipt to its settlement. Written by the master alone."""

    # No slots: one object is made per message, and most of its fields keep the class's default.

    state = State.READY
    #: Its state while it waits for a child: READY, or SUSPECT when it was delivered before and is acknowledged late.
    waits_as = State.READY
    #: Acknowledged early; the later verb has no effect at the broker. Written by ``master.outcome.settlement``.
    acked = False
    #: Its record's number in the child's task ring while DISPATCHED or STARTED.
    seq = 0
    #: Children that died after they claimed it and before its body began, as when decoding it kills the process.
    deaths = 0
    #: No child has decoded it and survived, so the master decodes only plain JSON.
    undecodable = False
    #: What all its events say, as members of JSON; empty when its task sends none, None before its first event.
    event_head: bytes | None = None
    #: The types and members of the events of its end, sent when it is settled.
    end_events: Sequence[tuple[str, bytes]] = ()
    #: The facts that its end depends on; most deliveries share the empty ones.
    facts: Facts[StoreRequest] = NO_FACTS
    #: The lease queue that holds the message; empty while its own queue does.
    lease = ""
    #: Wall-clock seconds since the epoch at which a held delivery is due.
    due = 0.0
    #: Of the first delivery of a batch that is ready or with a child: the others (``master.delivery.units``).
    followers: Sequence[Delivery] = ()
    #: It is one of those others.
    follows = False
    #: All deliveries of its batch, itself included, while a child has that.
    together: Sequence[Delivery] = ()
    #: A child runs it in a batch whose body is a function.
    in_function = False
    #: Decoded headers; filled only when something other than a plain run needs them.
    message: TaskMessage | None = None
    #: The request of a task with a request class of its own, from acceptance to end. Only the hook thread uses it.
    request: Any = None

    def __init__(self, epoch: int, queue: str, tag: int, deliver: bytes, header: bytes, body: bytes) -> None:
        self.epoch = epoch
        self.queue = queue
        self.tag = tag
        self.deliver = deliver
        self.header = header
        self.body = body
        #: Size of this delivery in bytes.
        self.size = len(header) + len(body)

    def own_facts(self) -> Facts[StoreRequest]:
        """Return its own facts, for writing."""
        self.facts = self.facts.own()
        return self.facts

    def move(self, new: State) -> None:
        """Go to ``new``; raises IllegalTransition when the table forbids it."""
        if new not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"a delivery cannot go from {self.state.name} to {new.name}")
        self.state = new


class Ledger:
    """All unsettled deliveries of this epoch, and older ones that still run."""

    __slots__ = ("_current", "_running_void", "bytes_held", "epoch", "leased", "newest", "received", "settled")

    def __init__(self) -> None:
        #: The current session's epoch; 0 while there is no session.
        self.epoch = 0
        self._current: dict[int, Delivery] = {}
        self._running_void: set[Delivery] = set()
        self.bytes_held = 0
        #: The highest tag of the epoch.
        self.newest = 0
        #: Deliveries whose message a lease queue holds.
        self.leased = 0
        self.received = 0
        self.settled = 0

    def __len__(self) -> int:
        return len(self._current)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self._current.values()))

    def add(self, delivery: Delivery) -> None:
        """Register a delivery of the current epoch."""
        self._current[delivery.tag] = delivery
        self.newest = delivery.tag
        self.bytes_held += delivery.size
        self.received += 1

    def remove(self, delivery: Delivery) -> None:
        """Forget a delivery that is settled, or a void one whose run has ended."""
        if delivery.epoch == self.epoch and self._current.pop(delivery.tag, None) is not None:
            self.bytes_held -= delivery.size
            self.settled += 1
            if delivery.lease:
                self.leased -= 1
        else:
            self._running_void.discard(delivery)

    def up_to(self, tag: int) -> list[Delivery]:
        """Return the unsettled deliveries with tags up to ``tag``, oldest first."""
        return list(itertools.takewhile(lambda delivery: delivery.tag <= tag, self._current.values()))

    def replace_tag(self, delivery: Delivery, tag: int, lease: str) -> None:
        """Give a delivery of this epoch the ``tag`` of its copy in ``lease``."""
        del self._current[delivery.tag]
        if not delivery.lease:
            self.leased += 1
        delivery.tag, delivery.lease = tag, lease
        self._current[tag] = delivery
        self.newest = max(self.newest, tag)

    def void(self, deliveries: Iterable[Delivery]) -> None:
        """Void single deliveries of this epoch, as :meth:`void_epoch` does all.

        A delivery that still runs stays recorded until it ends.
        """
        for delivery in deliveries:
            if self._current.pop(delivery.tag, None) is None:
                continue
            self.bytes_held -= delivery.size
            if delivery.lease:
                self.leased -= 1
            delivery.epoch = VOID_EPOCH
            if delivery.state is not State.VOID:
                self._running_void.add(delivery)

    def begin_epoch(self, epoch: int) -> None:
        """Start a new epoch; the old one must have been voided."""
        if self._current:
            raise RuntimeError(f"{len(self._current)} deliveries of epoch {self.epoch} were never voided")
        self.epoch = epoch
        self.newest = 0

    def void_epoch(self) -> list[Delivery]:
        """End the current epoch and return everything that was unsettled in it.

        The caller has moved every unclaimed delivery to VOID. The others run on although the broker delivers them
        again, and stay recorded until they end.
        """
        lost = list(self._current.values())
        self._current.clear()
        # No delivery is current until the next session: one that ends meanwhile ends as void.
        self.epoch = 0
        self.bytes_held = 0
        self.leased = 0
        self._running_void.update(d for d in lost if d.state is not State.VOID)
        return lost

    @property
    def running_void(self) -> int:
        """Number of tasks still running whose connection is gone."""
        return len(self._running_void)
