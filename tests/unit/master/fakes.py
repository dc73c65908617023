"""Fake broker, ring, publisher and store that record calls, for tests of the master's ledger."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from turbo.amqp.publish.publisher import Published
from turbo.amqp.refusals import Refusals
from turbo.backends.store import ResultWrite, StoreOutcome
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.hooks import NoHooks
from turbo.master.outcome.task_events import TaskEvents
from turbo.observers import Observers
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header
from turbo.ring import frames
from turbo.ring.master_link import PostMortem

QUEUE = "q"
CONSUMER = "c"
BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def header_of(identifier: str, task: str) -> bytes:
    """Return the content header of a task message."""
    headers, _body, properties = build(identifier, task)
    properties.headers = headers
    properties.content_type, properties.content_encoding = "application/json", "utf-8"
    return encode_header(properties, len(BODY))


def deliver_args(tag: int, redelivered: bool) -> bytes:
    """Return the arguments of a basic.deliver."""
    return b"\x01c" + struct.pack(">QB", tag, redelivered) + b"\x00" + bytes([len(QUEUE)]) + QUEUE.encode()


@dataclass(eq=False)
class Message:
    """One message in the fake broker."""

    id: str
    task: str
    header: bytes
    redelivered: bool = False


class Broker:
    """One queue and the link to it; refuses everything for which a real broker would close the channel."""

    def __init__(self) -> None:
        self.epoch = 0
        self.up = False
        self.queue: deque[Message] = deque()
        self.unacked: dict[int, Message] = {}
        self.acked: list[Message] = []
        self.dead: list[Message] = []
        self.settled: set[tuple[int, int]] = set()
        #: Copies that wait for this worker in its lease queue, and the tags of those that it holds.
        self.copies: deque[Message] = deque()
        self.leased: set[int] = set()
        self.server_version = (4, 3, 0)
        self.refusals = Refusals()
        #: Ids of messages that a lost connection took back.
        self.taken_back: set[str] = set()
        self._tag = 0

    def open(self) -> int:
        """Start a new session."""
        self.epoch, self.up, self._tag = self.epoch + 1, True, 0
        return self.epoch

    def close(self) -> None:
        """End the session: unsettled messages return to the front of the queue."""
        self.up = False
        for tag, message in reversed(list(self.unacked.items())):
            self.taken_back.add(message.id)
            if tag in self.leased:
                # Past its time in the lease queue: dead-lettered, and new to the task queue.
                self.queue.append(message)
            else:
                message.redelivered = True
                self.queue.appendleft(message)
        self.queue.extend(self.copies)
        self.copies.clear()
        self.unacked.clear()
        self.leased.clear()

    def deliver(self, count: int) -> list[tuple[int, bytes, bytes, bytes]]:
        """Deliver the next messages."""
        batch = []
        while self.queue and len(batch) < count:
            message = self.queue.popleft()
            self._tag += 1
            self.unacked[self._tag] = message
            batch.append((self._tag, deliver_args(self._tag, message.redelivered), message.header, BODY))
        return batch

    def deliver_copies(self) -> list[tuple[int, bytes, bytes, bytes]]:
        """Deliver all messages in the lease queue."""
        batch = []
        while self.copies:
            message = self.copies.popleft()
            self._tag += 1
            self.unacked[self._tag] = message
            self.leased.add(self._tag)
            batch.append((self._tag, deliver_args(self._tag, False), message.header, BODY))
        return batch

    def take_back(self, tags: set[int]) -> None:
        """Cancel a consumer: these of its messages return to the front of the queue."""
        for tag in sorted(tags, reverse=True):
            message = self.unacked.pop(tag)
            message.redelivered = True
            self.taken_back.add(message.id)
            self.queue.appendleft(message)

    # -- what the master calls ---------------------------------------------------------------------------

    def ack(self, epoch: int, tag: int) -> None:
        self.acked.append(self._settle(epoch, tag))

    def reject(self, epoch: int, tag: int, requeue: bool) -> None:
        leased = tag in self.leased
        message = self._settle(epoch, tag)
        if requeue or leased:
            assert not (requeue and leased), "a copy would wait in the lease queue of a worker that gave it up"
            message.redelivered = True
            self.queue.append(message)
        else:
            self.dead.append(message)

    def flush(self) -> None:
        """Do nothing: no settlement is held back."""

    async def catch_up(self) -> bool:
        return True

    @property
    def session(self) -> Broker | None:
        return self if self.up else None

    async def start_lease(self, _queue: object) -> bool:
        return True

    def _settle(self, epoch: int, tag: int) -> Message:
        assert self.up and epoch == self.epoch, f"tag {tag} of session {epoch} settled in session {self.epoch}"
        assert (epoch, tag) not in self.settled, f"tag {tag} of session {epoch} settled twice"
        self.settled.add((epoch, tag))
        return self.unacked.pop(tag)


class Handle:
    """A timer that can be cancelled."""

    def __init__(self, timers: Timers, timer: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
        self._timers, self._timer = timers, timer

    def cancel(self) -> None:
        self._timers.timers = [timer for timer in self._timers.timers if timer is not self._timer]


class Timers:
    """A loop whose timers the test fires."""

    def __init__(self) -> None:
        self.timers: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        #: The delay with which each timer was set.
        self.delays: list[float] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Handle:
        self.delays.append(delay)
        self.timers.append((callback, args))
        return Handle(self, self.timers[-1])

    def fire(self, owner: object = None) -> None:
        """Call the timers that exist now, or those of one object."""
        due = [timer for timer in self.timers if owner is None or getattr(timer[0], "__self__", None) is owner]
        self.timers = [timer for timer in self.timers if timer not in due]
        for callback, args in due:
            callback(*args)


class Ring:
    """Both rings of one child. The test takes the part of the child."""

    def __init__(self) -> None:
        self.seq = 0
        self.staged: list[int] = []
        #: The kinds of all records that were staged.
        self.kinds: list[int] = []
        self.unclaimed: deque[int] = deque()
        self.claimed: int | None = None
        #: The numbers of the claimed record whose messages have not ended; several in a batch.
        self.members: list[int] = []
        #: It has reported STARTED; it has entered the body.
        self.begun = self.entered = False
        self.outcomes: list[tuple[int, int, bytes]] = []

    def stage(self, kind: int, parts: Sequence[bytes], span: int = 1) -> int:
        self.seq += span
        self.kinds.append(kind)
        self.staged.append(self.seq - span + 1)
        return self.staged[-1]

    def commit(self) -> None:
        self.unclaimed.extend(self.staged)
        self.staged.clear()

    def take_back(self) -> int | None:
        return self.unclaimed.pop() if self.unclaimed else None

    def release(self, seq: int) -> None:
        pass

    def drain(self) -> list[tuple[int, int, bytes]]:
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    def post_mortem(self, final_kinds: Any = ()) -> PostMortem:
        ended = {seq for kind, seq, _ in self.outcomes if kind in final_kinds}
        claimed = self.claimed if self.claimed not in ended else None
        begun = self.begun and claimed is not None
        left = () if claimed is None else (claimed,)
        entered = max(self.members, default=claimed or 0) if self.entered else 0
        return PostMortem(self.drain(), list(self.unclaimed), claimed, begun, entered, 0, left, None)


@dataclass
class Publisher:
    """A publisher whose messages wait for their confirm."""

    waiting: list[tuple[str, bytes, bytes, Callable[[Published], None] | None]] = field(default_factory=list)
    #: Bodies of the messages that are sent again when a queue refuses them for now.
    patient: list[bytes] = field(default_factory=list)
    refusal: str = ""
    congested: bool = False
    backlog: int = 0
    on_relief: Observers[()] = field(default_factory=Observers)
    on_ready: Observers[()] = field(default_factory=Observers)
    connected: bool = True
    blocked: bool = False

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        mandatory: bool = False,
        patient: bool = False,
        done: Callable[[Published], None] | None = None,
    ) -> None:
        self.waiting.append((routing_key, header, body, done))
        if patient:
            self.patient.append(body)


class NoLeases:
    """Leases for tests in which no message is held for long."""

    def counted(self, _queue: str) -> bool:
        return False

    def begin_session(self) -> None:
        pass

    def end_session(self) -> None:
        pass


@dataclass
class Store:
    """A store whose writes wait for their reply."""

    waiting: list[tuple[ResultWrite, Callable[[StoreOutcome], None]]] = field(default_factory=list)
    congested: bool = False

    def store(self, write: ResultWrite, done: Callable[[StoreOutcome], None]) -> None:
        self.waiting.append((write, done))


NO_LEASES: Any = NoLeases()


def no_hooks(failure_documents: FailureDocuments) -> NoHooks:
    """Hooks that hold by the ack table."""
    return NoHooks(failure_documents)


def no_events() -> TaskEvents:
    """Task events that are off."""
    return TaskEvents({}, FailureDocuments({}, stores=False))


def nobody(_child: ChildProcess, reason: str) -> None:
    """The callback of a child whose rings stay sound: fails the test."""
    raise AssertionError(f"no ring is corrupt here: {reason}")


class Shelf:
    """Deliveries that wait for their ETA; the test decides when it is due."""

    def __init__(self) -> None:
        self.held: list[Delivery] = []
        self.on_due: Observers[Delivery] = Observers()

    def hold(self, delivery: Delivery) -> None:
        self.held.append(delivery)

    def withdraw(self) -> list[Delivery]:
        held, self.held = self.held, []
        return held

    def take_out(self, wanted: Any) -> list[Delivery]:
        taken = [delivery for delivery in self.held if delivery in wanted]
        self.held = [delivery for delivery in self.held if delivery not in wanted]
        return taken


@dataclass(frozen=True)
class Timer:
    """A timer of the loop below."""

    loop: Loop
    timer: tuple[Callable[..., None], tuple[Any, ...]]

    def cancel(self) -> None:
        self.loop.timers = [timer for timer in self.loop.timers if timer is not self.timer]


class Loop:
    """A loop whose timers, tasks and clock the test controls."""

    now = 0.0

    def __init__(self) -> None:
        self.timers: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.tasks: deque[Coroutine[Any, Any, None]] = deque()

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str = "") -> object:
        self.tasks.append(coroutine)
        return object()

    def turn(self) -> None:
        """Run every task; none of them waits."""
        while self.tasks:
            try:
                self.tasks.popleft().send(None)
            except StopIteration:
                continue
            raise AssertionError("a task waits")

    def fire(self, owner: object) -> None:
        """Call the timers of one object."""
        due = [timer for timer in self.timers if getattr(timer[0], "__self__", None) is owner]
        self.timers = [timer for timer in self.timers if timer not in due]
        for callback, args in due:
            callback(*args)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Timer:
        timer = (callback, args)
        self.timers.append(timer)
        return Timer(self, timer)


def stored(identifier: str) -> frames.StoreRequest:
    """Return a request to store a document."""
    return frames.StoreRequest(identifier, b"{}", False, "", identifier, "application/json", "utf-8")


def done_record(verb: int, ending: int, document: bytes) -> bytes:
    """Return the payload of a DONE record."""
    return frames.pack_done(verb, ending, 0, 20_000, 0, document)  # type: ignore[arg-type]
