"""A queue of the embedded broker: messages by priority and age; consumers.

The virtual host adds messages; the queue delivers them to consumers (`Receiver`) or returns them for basic.get. Time
comes from its `Timers`. It must never write to a socket, and it does not depend on channels.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from turbo.embedded_broker.dead_letters import DELIVERY_LIMIT, EXPIRED, MAXLEN
from turbo.embedded_broker.message import Entry, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.embedded_broker.queue_options import QueueOptions


class Handle(Protocol):
    """A timer that can be cancelled."""

    def cancel(self) -> None:
        """Cancel the timer."""


class Timers(Protocol):
    """The clock and the timers of the loop."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Handle:
        """Call `callback` after `delay` seconds."""


class Receiver(Protocol):
    """A consumer as its queue sees it."""

    priority: int
    exclusive: bool

    def can_take(self) -> bool:
        """Whether its prefetch window and its connection have room."""

    def deliver(self, entry: Entry) -> None:
        """Take a message.

        It is unacknowledged from now on, unless the consumer uses no_ack.
        """

    def cancelled(self) -> None:
        """Handle the deletion of the queue."""


class Owner(Protocol):
    """The virtual host as a queue sees it."""

    def dead_letter(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Take a message that leaves the queue without an acknowledgement."""

    def queue_unused(self, queue: Queue) -> None:
        """Delete a queue whose x-expires has passed."""


class Queue:
    """One queue.

    `owner_connection` is the connection of an exclusive queue, else None.
    """

    def __init__(
        self,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner_connection: object | None,
        arguments: Mapping[str, object],
        options: QueueOptions,
        owner: Owner,
        timers: Timers,
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner_connection = owner_connection
        self.arguments = arguments
        self.options = options
        self.consumers: list[Receiver] = []
        self.ready = 0
        self.unacked = 0
        self.deleted = False
        self._owner = owner
        self._timers = timers
        self._bytes = 0
        self._next_position = 0
        self._levels: list[deque[Entry]] = [deque() for _ in range(options.max_priority + 1)]
        self._ttl_timer: tuple[float, Handle] | None = None
        self._unused_timer: Handle | None = None
        self.touch()

    # -- messages in ----------------------------------------------------------------------------------

    def push(self, message: Message) -> bool:
        """Append a published message and deliver what is possible.

        Returns False if the queue is full.
        """
        if self._full_for(message) and self.options.overflow != "drop-head":
            if self.options.overflow == "reject-publish-dlx":
                self._owner.dead_letter(self, Entry(message, 0, None), MAXLEN)
            return False
        limits = [ttl for ttl in (self.options.message_ttl, message.ttl) if ttl is not None]
        expires_at = self._timers.time() + min(limits) if limits else None
        entry = Entry(message, self._next_position, expires_at)
        self._next_position += 1
        self._level(message).append(entry)
        self._count(entry, +1)
        self.dispatch()
        self._drop_overflow()
        if expires_at is not None:
            self._drop_expired()
        return True

    def requeue(self, entries: list[Entry], *, counted: bool = True) -> None:
        """Return delivered messages to their places, redelivered, and deliver.

        `counted` False: the delivery did not fail, the consumer only returned it. This matters only for
        `x-delivery-limit`.
        """
        if self.deleted:
            return
        limit = self.options.delivery_limit if self.options.quorum else None
        for entry in sorted(entries, key=lambda each: -each.position):
            entry.redelivered = True
            entry.deliveries += counted
            if limit is not None and entry.deliveries > limit:
                self._owner.dead_letter(self, entry, DELIVERY_LIMIT)
                continue
            _insert(self._level(entry.message), entry)
            self._count(entry, +1)
        self.dispatch()
        self._drop_expired()

    # -- messages out ---------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Deliver ready messages while a consumer can take one."""
        while self.ready:
            receiver = self._next_receiver()
            if receiver is None:
                return
            entry = self.pop()
            if entry is None:
                return
            receiver.deliver(entry)

    def pop(self) -> Entry | None:
        """Remove and return the next message, unacknowledged from now on.

        None if there is none.
        """
        now = self._timers.time()
        for level in reversed(self._levels):
            while level:
                entry = level.popleft()
                self._count(entry, -1)
                if entry.expires_at is not None and entry.expires_at < now:
                    self._owner.dead_letter(self, entry, EXPIRED)
                    continue
                self.unacked += 1
                if level and level[0].expires_at is not None:
                    self._wake_at(level[0].expires_at)
                return entry
        return None

    def purge(self) -> int:
        """Drop all ready messages; return how many there were."""
        count = self.ready
        for level in self._levels:
            level.clear()
        self.ready = self._bytes = 0
        return count

    # -- consumers ------------------------------------------------------------------------------------

    def add_consumer(self, receiver: Receiver) -> None:
        """Add a consumer, after the others of its priority, and deliver to it."""
        self._place(receiver)
        self.touch()
        self.dispatch()

    def remove_consumer(self, receiver: Receiver) -> None:
        """Stop delivering to a consumer."""
        if receiver in self.consumers:
            self.consumers.remove(receiver)
            self.touch()
            self.dispatch()  # on a single-active-consumer queue the next consumer is active now

    def touch(self) -> None:
        """Restart x-expires after a use of the queue.

        It does not run while there are consumers.
        """
        if self._unused_timer is not None:
            self._unused_timer.cancel()
            self._unused_timer = None
        if self.options.expires is not None and not self.consumers and not self.deleted:
            self._unused_timer = self._timers.call_later(self.options.expires, lambda: self._owner.queue_unused(self))

    def close(self) -> None:
        """Delete the queue: drop the messages, cancel the consumers, stop the timers."""
        self.deleted = True
        self.purge()
        consumers, self.consumers = self.consumers, []
        for receiver in consumers:
            receiver.cancelled()
        self.touch()
        if self._ttl_timer is not None:
            self._ttl_timer[1].cancel()
            self._ttl_timer = None

    # -- inside ---------------------------------------------------------------------------------------

    def _next_receiver(self) -> Receiver | None:
        candidates = self.consumers[:1] if self.options.single_active else self.consumers
        for receiver in candidates:
            if receiver.can_take():
                if len(self.consumers) > 1 and not self.options.single_active:
                    self.consumers.remove(receiver)
                    self._place(receiver)
                return receiver
        return None

    def _place(self, receiver: Receiver) -> None:
        at = len(self.consumers)
        while at and self.consumers[at - 1].priority < receiver.priority:
            at -= 1
        if self.options.single_active and self.consumers:
            at = max(at, 1)  # the active consumer stays active
        self.consumers.insert(at, receiver)

    def _level(self, message: Message) -> deque[Entry]:
        return self._levels[min(message.layout.priority or 0, self.options.max_priority)]

    def _count(self, entry: Entry, by: int) -> None:
        self.ready += by
        self._bytes += by * len(entry.message.body)

    def _full_for(self, message: Message) -> bool:
        options = self.options
        return (options.max_length is not None and self.ready >= options.max_length) or (
            options.max_length_bytes is not None and self._bytes + len(message.body) > options.max_length_bytes
        )

    def _drop_overflow(self) -> None:
        options = self.options
        while self.ready and (
            (options.max_length is not None and self.ready > options.max_length)
            or (options.max_length_bytes is not None and self._bytes > options.max_length_bytes)
        ):
            level = next(level for level in self._levels if level)
            entry = level.popleft()
            self._count(entry, -1)
            self._owner.dead_letter(self, entry, MAXLEN)

    def _drop_expired(self) -> None:
        """Dead-letter expired messages at the head of each priority.

        Set a timer for the next one.
        """
        now = self._timers.time()
        soonest: float | None = None
        for level in self._levels:
            while level and level[0].expires_at is not None and level[0].expires_at <= now:
                entry = level.popleft()
                self._count(entry, -1)
                self._owner.dead_letter(self, entry, EXPIRED)
            if level and level[0].expires_at is not None:
                soonest = min(level[0].expires_at, soonest or level[0].expires_at)
        self._wake_at(soonest)

    def _wake_at(self, when: float | None) -> None:
        if self._ttl_timer is not None:
            if when is not None and self._ttl_timer[0] <= when:
                return  # the earlier timer sets the next one
            self._ttl_timer[1].cancel()
            self._ttl_timer = None
        if when is not None and not self.deleted:
            handle = self._timers.call_later(max(0.0, when - self._timers.time()), self._ttl_due)
            self._ttl_timer = (when, handle)

    def _ttl_due(self) -> None:
        self._ttl_timer = None
        self._drop_expired()


def _insert(level: deque[Entry], entry: Entry) -> None:
    """Insert a requeued message before all younger ones."""
    if not level or entry.position < level[0].position:
        level.appendleft(entry)
        return
    for at, other in enumerate(level):
        if other.position > entry.position:
            level.insert(at, entry)
            return
    level.append(entry)
