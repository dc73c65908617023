"""Reads the records of children and carries them out.

They say what is started, published, stored and done.

Runs in the master. Before it: the outcome rings, one eventfd per child. After it: ``master.outcome.settlement``, the
dispatcher (which has room again), ``master.children.time_limits`` (deadlines), ``master.delivery.eta`` (tasks not yet
due). An invalid record must never affect more than its child, which is replaced.
"""

from __future__ import annotations

import functools
import logging
import struct
import time
from typing import TYPE_CHECKING, Any

from turbo.master.delivery import units
from turbo.observers import Observers
from turbo.policy import look_ahead
from turbo.policy.delivery_lifecycle import IllegalTransition, State
from turbo.policy.settling import Ending, Verb
from turbo.protocol.peek import NAME_AT, NAME_FROM, NAME_MARK, task_name
from turbo.ring import frames
from turbo.ring.layout import RingCorrupt

if TYPE_CHECKING:
    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.eta import EtaShelf
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.master.outcome.interfaces import DispatcherLike, SettlementLike
    from turbo.master.outcome.start_looks import StartLooks

logger = logging.getLogger(__name__)

#: Seconds between polls of the rings at a high rate of outcomes. Children hold work for twice as long.
_POLL = 0.001
#: Rate of outcome records, per second over all children, above which polling is cheaper than wake-ups.
_POLL_ABOVE = 4_000
_STEP = 0.05
#: Verbs by number: this look-up takes a fifth of the time of ``Verb(number)``.
_VERBS = {verb.value: verb for verb in Verb}
_HOLD = Verb.HOLD.value

#: The most names that are counted separately: they come from the wire.
_MOST = 10_000
_LENGTH_AT = NAME_AT - 1


class TaskCounts:
    """The started tasks by name; ``control.inspect_commands`` reads them.

    It never parses a header: the header's bytes up to the end of the name are the key, if it begins as Celery's do.
    """

    __slots__ = ("_names", "_pieces")

    def __init__(self) -> None:
        #: Each list has one entry, the count of a name; both mappings share the lists.
        self._names: dict[bytes, list[int]] = {}
        self._pieces: dict[bytes, list[int]] = {}

    def count(self, header: bytes) -> None:  # hot: bench drain
        """Count one started task with this content header."""
        try:
            self._pieces[header[NAME_FROM : NAME_AT + header[_LENGTH_AT]]][0] += 1
        except (KeyError, IndexError):
            self._count_name(header)

    def _count_name(self, header: bytes) -> None:
        """Count the first task of a name, or one whose header begins in another way."""
        name = task_name(header) or b"?"
        cell = self._names.get(name)
        if cell is None:
            if len(self._names) >= _MOST:
                return
            cell = self._names[name] = [0]
        cell[0] += 1
        piece = header[NAME_FROM : NAME_AT + len(name)]
        if len(name) < 256 and piece.startswith(NAME_MARK) and piece.endswith(name):
            self._pieces[piece] = cell

    def by_name(self) -> dict[str, int]:
        """Return the counts."""
        return {name.decode("utf-8", "replace"): cell[0] for name, cell in self._names.items()}


class Outcomes:
    """Reads all outcome rings."""

    def __init__(
        self, dispatcher: DispatcherLike, settlement: SettlementLike,
        hooks: OutcomeHooks, shelf: EtaShelf, looks: StartLooks,
    ) -> None:  # fmt: skip
        self._dispatcher = dispatcher
        self._looks = looks
        looks.on_due.add(self._look)
        self._hooks = hooks
        self._settlement = settlement
        self._events = settlement.events
        self._events.on_switched.add(self._switch_events)
        self._shelf = shelf
        #: Called when a task with time limits has started, with its child, the record's number, the soft and the hard
        #: deadline (``time.monotonic_ns``) and the hard limit in seconds.
        self.on_limits: Observers[ChildProcess, int, int, int, float] = Observers()
        #: Called with a child and the number of its tasks that have just ended.
        self.on_ended: Observers[ChildProcess, int] = Observers()
        #: Number of ended tasks by ending, for reports and the log.
        self.endings: dict[int, int] = dict.fromkeys(Ending, 0)
        self.started = 0
        self.task_counts = TaskCounts()
        self._loop: Any = None  # compiled code checks types, and uvloop's methods return others than the stubs say
        self._watched: dict[int, ChildProcess] = {}
        self._polling = False
        self._counted = 0
        self._counted_since = 0.0

    def watch(self, loop: Any, child: ChildProcess) -> None:
        """Read this child's outcomes whenever it signals, or at every poll at a high rate."""
        self._loop = loop
        self._watched[child.epoch] = child
        child.link.page.set_events(self._events.on)
        self._looks.watch(child)
        if not self._polling:
            loop.add_reader(child.link.outcome_fd, self._ready, child)

    def unwatch(self, loop: Any, child: ChildProcess) -> None:
        """Stop reading; the child is gone and its ring was drained."""
        self._looks.unwatch(child)
        if self._watched.pop(child.epoch, None) is not None and not self._polling:
            loop.remove_reader(child.link.outcome_fd)

    def _switch_events(self, on: bool) -> None:
        for child in self._watched.values():
            child.link.page.set_events(on)

    def _ready(self, child: ChildProcess) -> None:
        """Handle a child's signal."""
        if self._drain(child):
            self._dispatcher.balance()
            if self._calls_for_polling():
                self._begin_polling()

    def _look(self, children: list[ChildProcess]) -> None:
        """Handle what these children have stored and not signalled."""
        if self._polling:
            return  # the polls do it for all children
        found = 0
        for child in children:
            if child.link.behind():
                found += self._drain(child, early=True)
        if found:
            self._dispatcher.balance()

    def _drain(self, child: ChildProcess, *, early: bool = False) -> int:
        try:
            records = child.link.drain_early() if early else child.link.drain()
        except RingCorrupt as error:
            self._condemn(child, str(error))
            return 0
        if records:
            self.take(child, records)
            self._counted += len(records)
        return len(records)

    # At thousands of records per second, a wake-up for each costs more than the records. So the readers are
    # removed from the loop and the rings are polled every millisecond until the rate drops. The eventfds still
    # order the memory: a poll reads the same eventfd.

    def _calls_for_polling(self) -> bool:
        """Whether the rate calls for polling; False between measurements (``_STEP``)."""
        now = self._loop.time()
        if now - self._counted_since < _STEP:
            return False
        many = self._counted > _POLL_ABOVE * (now - self._counted_since)
        recent = now - self._counted_since < 4 * _STEP
        self._counted, self._counted_since = 0, now
        # Children without work ahead would wait for each poll, for example at a small window. Half of the time between
        # polls is enough: a ring holds no more of the shortest tasks.
        ahead, estimate = self._dispatcher.ahead, self._dispatcher.estimate_ns
        busy = sum(not child.free_listed for child in self._watched.values())
        return many and recent and look_ahead.lasts(ahead, estimate, busy, int(_POLL * 5e8))

    def _begin_polling(self) -> None:
        self._polling = True
        for child in self._watched.values():
            self._loop.remove_reader(child.link.outcome_fd)
        self._loop.call_later(_POLL, self._poll)

    def _poll(self) -> None:
        found = 0
        for child in list(self._watched.values()):
            # The tail word is only a hint: reading it costs a tenth of a read that finds nothing.
            if child.link.behind():
                found += self._drain(child)
                if child.link.behind():
                    found += self._drain(child, early=True)
        if found:
            self._dispatcher.balance()
        if self._loop.time() - self._counted_since < _STEP or self._calls_for_polling():
            self._loop.call_later(_POLL, self._poll)
            return
        self._polling = False
        for child in self._watched.values():
            self._loop.add_reader(child.link.outcome_fd, self._ready, child)
        self._looks.expect_all()  # those of the time of the polls found nothing

    def look(self, child: ChildProcess) -> None:
        """Read what this child has signalled, before deciding about its tasks."""
        if child.epoch in self._watched and self._drain(child):
            self._dispatcher.balance()

    def take(self, child: ChildProcess, records: list[tuple[int, int, bytes]]) -> None:  # hot: bench drain
        """Carry out a batch of one child's records, in order."""
        child.moved_ns = time.monotonic_ns()
        child.silent = False
        if child.abandoned:
            records = _without_abandoned(child, records)
        before = child.done
        try:
            self._carry_out(child, records)
        except (RingCorrupt, IllegalTransition, ValueError, KeyError, struct.error) as error:
            self._condemn(child, f"{type(error).__name__}: {error}")
        if child.done > before:
            self.on_ended(child, child.done - before)

    def _carry_out(self, child: ChildProcess, records: list[tuple[int, int, bytes]]) -> None:  # hot: bench drain
        """Do what the records say, then tell ring and dispatcher of all ended tasks."""
        assigned, runtimes = child.assigned, list[int]()
        released = followed = 0
        try:
            for kind, seq, payload in records:
                if kind == frames.STARTED:
                    self._started(child, seq, payload)
                elif kind == frames.DONE:
                    beside = seq not in assigned
                    delivery = (child.parked if beside else assigned).pop(seq)
                    if not beside and seq > released:
                        released = seq
                    # While others of a batch have not ended, the child is busy as before.
                    if beside or (delivery.followers and units.promote(child, delivery)):
                        self._dispatcher.ended_beside(child, self._done(child, delivery, payload))
                        continue
                    if assigned:
                        followed += 1
                    runtimes.append(self._done(child, delivery, payload))
                elif kind == frames.PUBLISH:
                    self._settlement.publish(child.holding(seq), frames.unpack_publish(payload))
                elif kind == frames.STORE:
                    self._settlement.state(child.holding(seq), frames.unpack_store(payload))
                elif kind == frames.ADMITTED:
                    self._admitted(child, seq, payload)
                elif kind == frames.EVENT:
                    self._events.add(child.holding(seq), *frames.unpack_event(payload))
                elif kind == frames.ASKED:
                    self._asked(child, seq, payload)
                else:
                    raise RingCorrupt(f"record of unknown kind {kind}")
        finally:
            if released:
                child.link.release(released)
            if runtimes or followed:
                self._dispatcher.finished(child, runtimes, followed)

    def _started(self, child: ChildProcess, seq: int, payload: bytes) -> None:
        delivery = child.assigned[seq]
        delivery.move(State.STARTED)
        self.started += 1
        self.task_counts.count(delivery.header)
        if self._events.on:
            self._events.started(delivery)
        if payload == frames.STARTED_EARLY:
            self._settlement.ack_early(delivery)
            return
        flags, soft_ns, hard_ns, limit = frames.unpack_started(payload)
        if flags & frames.EARLY_ACK:
            self._settlement.ack_early(delivery)
        if flags & frames.START_FOR_HOOKS:
            self._hooks.accepted(delivery, child.pid)
        if flags & frames.HAS_LIMITS:
            self.on_limits(child, seq, soft_ns, hard_ns, limit)

    def _admitted(self, child: ChildProcess, seq: int, payload: bytes) -> None:
        """Note that the child runs this beside others, with room, or in a batch."""
        follows = seq in child.parked
        if follows:
            child.assigned[seq] = child.parked.pop(seq)
        self._started(child, seq, payload)
        child.parked[seq] = delivery = child.assigned.pop(seq)
        if follows:
            delivery.in_function = frames.unpack_started(payload)[0] & frames.IN_FUNCTION != 0
        else:
            child.link.release(seq)
            self._dispatcher.admitted(child)

    def _asked(self, child: ChildProcess, seq: int, payload: bytes) -> None:
        """Store the document that a task waits for."""
        asked = frames.unpack_asked(payload)
        delivery = child.holding(seq)
        if delivery is None:
            raise RingCorrupt(f"record {seq} asks for a store but is not held by this child")
        self._settlement.outcome(delivery, asked, functools.partial(child.link.answer, asked.ticket))

    def _done(self, child: ChildProcess, delivery: Delivery, payload: bytes) -> int:
        """Carry out the end of a task; return its run time in nanoseconds."""
        verb, ending, flags, runtime_ns, due_ns = frames.unpack_done_head(payload)
        texts, store, for_hooks = frames.NO_TEXTS, None, b""
        if len(payload) > frames.DONE_SIZE:
            texts, store, for_hooks = frames.unpack_done_rest(payload, flags)
        child.done += 1
        self.endings[ending] += 1
        if verb == _HOLD:
            self._hold(delivery, due_ns)
            return int(runtime_ns)
        if self._events.on:
            self._events.ended(delivery, ending, _VERBS[verb], texts, runtime_ns)
        if flags & frames.FOR_HOOKS:
            then = functools.partial(self._settlement.finish, delivery)
            self._hooks.reported(delivery, _VERBS[verb], Ending(ending), for_hooks, then)
        else:
            self._settlement.finish(delivery, _VERBS[verb], store)
        return int(runtime_ns)

    def _hold(self, delivery: Delivery, due_ns: int) -> None:
        if not self._settlement.keep_or_void(delivery):
            return
        units.dissolve(delivery)
        delivery.move(State.HELD)
        delivery.due = due_ns / 1e9
        self._shelf.hold(delivery)

    def _condemn(self, child: ChildProcess, reason: str) -> None:
        logger.critical("Corrupt ring record from child %d (pid %d); replacing it: %s", child.index, child.pid, reason)
        child.condemn(reason)


def _without_abandoned(child: ChildProcess, records: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Drop what ended tasks report whose threads went on; note which are done."""
    kept = [record for record in records if record[1] not in child.abandoned]
    for kind, seq, _payload in records:
        if kind == frames.DONE and seq in child.abandoned:
            child.abandoned.discard(seq)
            logger.info("The thread of a task that was ended is done in child %d (pid %d)", child.index, child.pid)
    return kept
