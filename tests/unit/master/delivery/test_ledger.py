"""The delivery ledger under everything that can happen, in any order.

The real intake, dispatcher, outcomes, settlement, redelivery guard, failure documents, poison guard and dead-child
handling run against a broker, rings, a publisher and a store that only record calls; the machine plays the children,
the network and the time. What must hold: a tag is settled at most once and never in another session than its own;
nothing is acknowledged before its effects are safe; nothing vanishes; nothing is held for ever.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.harness.examples import examples
from tests.unit.master.fakes import (
    CONSUMER,
    QUEUE,
    Broker,
    Loop,
    Message,
    Publisher,
    Ring,
    Shelf,
    Store,
    done_record,
    header_of,
    no_events,
    no_hooks,
    nobody,
    stored,
)
from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
from turbo.amqp.publish.publisher import Published
from turbo.amqp.topology import task_queue
from turbo.backends.store import StoreOutcome
from turbo.master.children.child_process import ChildProcess
from turbo.master.children.dead_child import DeadChild
from turbo.master.delivery.batches import Batches
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.intake import Intake
from turbo.master.delivery.lease_copies import LeaseCopies
from turbo.master.delivery.lease_ends import LeaseEnds
from turbo.master.delivery.leases import Leases
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.delivery.paused_queues import PausedQueues
from turbo.master.delivery.rate_limits import RateLimits
from turbo.master.delivery.redelivery_guard import RedeliveryGuard
from turbo.master.delivery.returning import Returns
from turbo.master.delivery.revoked_tasks import RevokedTasks
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.lost_retries import LostRetries
from turbo.master.outcome.outcomes import Outcomes
from turbo.master.outcome.poison import Poison
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.start_looks import StartLooks
from turbo.master.outcome.storing import DocumentStore
from turbo.policy.batching import Batch
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.poison import DELIVERIES
from turbo.policy.revoked import Revoked
from turbo.policy.settling import Ending, Verb, settle
from turbo.policy.task_options import TaskOptions
from turbo.protocol.properties import decode_header
from turbo.ring import frames

LEASE_S = 10.0
MOST = 3
ATTEMPTS = 2
TASKS = {
    "early": TaskOptions("early"),
    "late": TaskOptions("late", acks_late=True),
    "strict": TaskOptions(
        "strict", acks_late=True, acks_on_failure=False, acks_on_timeout=False, reject_on_worker_lost=True
    ),
    "counted": TaskOptions(
        "counted", acks_late=True, retry_on_worker_lost=True, max_retries=ATTEMPTS - 1, default_retry_delay=0
    ),
    "early in batches": TaskOptions("early in batches", batch=Batch(3, 5.0)),
    "strict in batches": TaskOptions(
        "strict in batches", acks_late=True, acks_on_failure=False, reject_on_worker_lost=True, batch=Batch(3, 5.0)
    ),
    "limited": TaskOptions("limited", acks_late=True, rate_limit="2/s"),
}
CHILDREN = 3


async def no_window() -> None:
    """Nothing limits how much the broker delivers."""


one_child = st.integers(0, CHILDREN - 1)
COUNT = st.integers(1, 4)


class StrictDeadChild(DeadChild):
    """Raises the error instead of putting everything back because of it: here it is always a fault of the master."""

    def _give_back(self, _delivery: Delivery) -> None:
        raise


class LedgerMachine(RuleBasedStateMachine):
    shelf_type = Shelf

    @initialize()
    def begin(self) -> None:
        loop: Any = Loop()
        self.broker, self.publisher, self.store, self.shelf = Broker(), Publisher(), Store(), self.shelf_type()
        broker: Any = self.broker
        publisher: Any = self.publisher
        store: Any = self.store
        shelf: Any = self.shelf
        self.ledger = Ledger()
        failure_documents = FailureDocuments(TASKS, stores=True)
        self.loop = loop
        queues = {QUEUE: task_queue(QUEUE)}
        ends = self.ends = LeaseEnds(broker, publisher)
        self.paused_queues = PausedQueues()
        copies = LeaseCopies(
            loop, self.ledger, publisher, queues, broker, ends, self.paused_queues, hostname="w", enabled=True
        )
        timeouts = ConsumerTimeouts(LEASE_S)
        self.leases = Leases(loop, self.ledger, queues, broker, copies, no_window, timeouts=timeouts)
        self.dispatcher = Dispatcher(loop, max_tasks_per_child=None, charges=copies, max_deliveries=MOST)
        self.suspects = self.dispatcher._suspects
        hooks = no_hooks(failure_documents)
        settlement = Settlement(
            publisher,
            DocumentStore(store, self.dispatcher),
            self.ledger,
            self.dispatcher,
            hooks,
            broker,
            ends,
            no_events(),
        )
        self.rate_limits = RateLimits(loop, self.dispatcher, failure_documents, TASKS, clock=loop.time)
        self.batches = Batches(loop, self.ledger, self.dispatcher, TASKS)
        self.redelivery_guard = RedeliveryGuard(self.dispatcher, self.rate_limits, settlement, failure_documents)
        self.outcomes = Outcomes(self.dispatcher, settlement, hooks, shelf, StartLooks(loop, self.dispatcher))
        self.revoked_tasks = RevokedTasks(Revoked(), settlement, self.outcomes, failure_documents, hooks)
        returns = Returns(self.ledger, publisher, queues, broker, ends)
        self.intake = Intake(
            self.ledger, self.dispatcher, settlement, failure_documents, hooks, self.redelivery_guard,
            self.outcomes, self.leases, returns, shelf, self.rate_limits, self.batches, self.revoked_tasks,
            self.paused_queues, verbose=False,
        )  # fmt: skip
        poison = Poison(settlement, failure_documents, max_deliveries=MOST)
        retries = LostRetries(settlement, failure_documents, hooks)
        self.lost = StrictDeadChild(
            self.dispatcher, self.outcomes, settlement, failure_documents, hooks, poison, retries, self.revoked_tasks,
            self.paused_queues,
        )  # fmt: skip
        self.sent: list[Message] = []
        #: Ids that a child has said to have accepted; how often each body was entered.
        self.accepted: set[str] = set()
        self.starts: Counter[str] = Counter()
        self.died_started: Counter[str] = Counter()
        self.died_unstarted: Counter[str] = Counter()
        #: Ids of which a child reported an end that is no hold.
        self.ended: set[str] = set()
        #: Ids whose store or publish failed, so that they may run again.
        self.faulted: set[str] = set()
        #: Ids whose result was refused for good.
        self.refused: set[str] = set()
        #: Ids whose count could not be written down.
        self.uncounted: set[str] = set()
        self.incarnations = 0
        self.children: list[ChildProcess] = []
        for index in range(CHILDREN):
            self.children.append(self._child(index))
        self.open()

    def _child(self, index: int) -> ChildProcess:
        ring: Any = Ring()
        self.incarnations += 1
        child = ChildProcess(index + 1, self.incarnations, ring, 0.0, nobody)
        child.state = ChildState.SERVING
        self.dispatcher.add_child(child)
        return child

    # -- the broker --------------------------------------------------------------------------------------

    @rule(task=st.sampled_from(sorted(TASKS)), count=COUNT)
    def send(self, task: str, count: int) -> None:
        for _ in range(count):
            identifier = f"{task}-{len(self.sent)}"
            message = Message(identifier, task, header_of(identifier, task))
            self.sent.append(message)
            self.broker.queue.append(message)

    @precondition(lambda self: self.broker.up)
    @rule(count=COUNT)
    def deliver(self, count: int) -> None:
        batch = self.broker.deliver(count)
        if batch:
            self.intake.on_deliveries(self.broker.epoch, QUEUE, batch)

    @precondition(lambda self: self.broker.up)
    @rule(task=st.sampled_from(sorted(TASKS)), count=COUNT, order=st.permutations(range(CHILDREN)))
    def send_and_begin(self, task: str, count: int, order: list[int]) -> None:
        """The straight way into children, which chance alone finds too seldom."""
        self.send(task, count)
        self.deliver(count)
        for index in order[:2]:
            self.claim(index)
            self.start(index)

    @rule(index=one_child, ending=st.sampled_from([Ending.SUCCESS, Ending.FAILURE]))
    def end_and_drain(self, index: int, ending: Ending) -> None:
        """The straight way out."""
        self.end(index, ending)
        self.drain(index)

    @precondition(lambda self: self.broker.up)
    @rule(seconds=st.floats(1.0, LEASE_S))
    def let_time_pass(self, seconds: float) -> None:
        """Some of what is held grows too old for its lease."""
        self.loop.now += seconds
        with pytest.raises(StopIteration):
            self.leases.renew().send(None)

    @precondition(lambda self: self.loop.tasks)
    @rule()
    def turn_the_loop(self) -> None:
        """A round of suspects begins. One whose copy is on its way already, since it is old, runs uncounted."""
        round_ = self.suspects._round
        self.uncounted.update(self._facts(d)[0] for d in round_ if self.leases.copies.is_moving(d))
        self.loop.turn()

    @precondition(lambda self: self.suspects._unanswered)
    @rule()
    def lose_patience(self) -> None:
        """The round takes too long."""
        self.uncounted.update(self._facts(delivery)[0] for delivery in self.suspects._unanswered)
        waiting = [delivery for delivery in self.ledger if delivery.state is State.SUSPECT]
        self.loop.fire(self.suspects)
        # Those that are given out for some seconds after it run uncounted too.
        charged = self.suspects._charged
        self.uncounted.update(self._facts(d)[0] for d in waiting if d.state is State.DISPATCHED and d not in charged)
        self.suspects._paused_until = 0.0
        self.dispatcher.balance()

    @precondition(lambda self: self.suspects._waiting)
    @rule()
    def look_at_those_that_wait(self) -> None:
        self.uncounted.update(self._facts(delivery)[0] for delivery in self.suspects._unanswered)
        self.loop.fire(self.suspects)
        self.suspects._paused_until = 0.0

    @precondition(lambda self: self.broker.up)
    @rule()
    def pause_queue(self) -> None:
        """Its consumer stays: what waits here or still comes is held, and no child gets it."""
        self.intake.places.hold_unstarted(QUEUE)

    @precondition(lambda self: QUEUE in self.paused_queues.names)
    @rule()
    def resume_queue(self) -> None:
        self.intake.take_up(QUEUE)

    @precondition(lambda self: self.broker.up)
    @rule()
    def charge_suspects(self) -> None:
        """The straight way through their lane."""
        self.deliver(4)
        self.turn_the_loop()
        self.confirm_copies()
        if self.broker.copies:
            self.deliver_copies()
        self.turn_the_loop()

    @precondition(lambda self: self.broker.up and self.broker.copies)
    @rule()
    def deliver_copies(self) -> None:
        self.intake.on_lease_copies(self.broker.epoch, self.broker.deliver_copies())

    @precondition(lambda self: self.broker.up)
    @rule()
    def renew_leases(self) -> None:
        """The straight way into lease queues, which chance alone finds too seldom."""
        self.let_time_pass(LEASE_S)
        self.confirm_copies()
        self.deliver_copies()

    def confirm_copies(self) -> None:
        """The broker takes every copy that waits for its confirm."""
        for number, waiting in reversed(list(enumerate(self.publisher.waiting))):
            if waiting[0].startswith("turbo.lease."):
                self.confirm(number, Published.CONFIRMED)

    @precondition(lambda self: self.broker.up)
    @rule()
    def cancel_consumer(self) -> None:
        """The broker takes back what a consumer holds unsettled, and delivers it again."""
        void = set(self.intake.on_consumer_cancelled(self.broker.epoch, QUEUE, CONSUMER))
        self.broker.take_back(void)
        assert all(tag in self.broker.leased for tag in self.broker.unacked)

    @precondition(lambda self: not self.broker.up)
    @rule()
    def open(self) -> None:
        self.intake.on_session_up(self.broker.open())

    @precondition(lambda self: self.broker.up)
    @rule()
    def lose_session(self) -> None:
        self.broker.close()
        self.intake.on_session_lost(self.broker.epoch, "a test")

    # -- children ----------------------------------------------------------------------------------------

    @rule(index=one_child)
    def claim(self, index: int) -> None:
        ring: Any = self.children[index].link
        if ring.claimed is None and ring.unclaimed:
            ring.claimed, ring.begun, ring.entered = ring.unclaimed.popleft(), False, False
            first = self.children[index].assigned[ring.claimed]
            ring.members = [delivery.seq for delivery in (first, *first.followers)]

    @rule(index=one_child)
    def start(self, index: int) -> None:
        """The child reports STARTED, unless the message is spent: then it is rejected unstarted."""
        child = self.children[index]
        ring: Any = child.link
        if ring.claimed is None or ring.begun:
            return
        ring.begun = True
        for seq in list(ring.members):
            identifier, task, deaths = self._facts(self._held(child, seq))
            if deaths >= MOST:
                self._report(child, Verb.REJECT, Ending.INVALID, seq=seq)
                self.ended.add(identifier)
                continue
            self.accepted.add(identifier)
            early = not TASKS[task].acks_late
            if seq == ring.members[0]:
                ring.outcomes.append((frames.STARTED, seq, frames.STARTED_EARLY if early else frames.STARTED_LATE))
            else:
                flags = frames.IN_FUNCTION | (frames.EARLY_ACK if early else 0)
                ring.outcomes.append((frames.ADMITTED, seq, frames.pack_started(flags, 0, 0, 0.0)))

    @rule(index=one_child)
    def enter(self, index: int) -> None:
        """The child enters the body of what it has accepted."""
        child = self.children[index]
        ring: Any = child.link
        if ring.claimed is not None and ring.begun and not ring.entered:
            ring.entered = True
            for seq in ring.members:
                self.starts[self._facts(self._held(child, seq))[0]] += 1

    @rule(index=one_child)
    def publish(self, index: int) -> None:
        child = self.children[index]
        ring: Any = child.link
        if self._running(index):
            request = frames.PublishRequest("", "elsewhere", b"h", b"b", False)
            ring.outcomes.append((frames.PUBLISH, ring.members[0], b"".join(frames.pack_publish(request))))

    @rule(index=one_child)
    def retry(self, index: int) -> None:
        """The task stores that it is tried again, sends its next attempt and ends."""
        child = self.children[index]
        ring: Any = child.link
        if not self._running(index):
            return
        seq = ring.members[-1]
        identifier, task, _ = self._facts(self._held(child, seq))
        self.ended.add(identifier)
        after = frames.PublishRequest("", "elsewhere", b"h", identifier.encode(), False, after_states=True)
        ring.outcomes.append((frames.STORE, seq, frames.pack_store(stored(identifier))))
        ring.outcomes.append((frames.PUBLISH, seq, b"".join(frames.pack_publish(after))))
        self._report(child, settle(Ending.RETRY, TASKS[task].ack_options()), Ending.RETRY, seq=seq)

    @rule(index=one_child, ending=st.sampled_from([Ending.SUCCESS, Ending.FAILURE, Ending.REJECT_REQUEUE]))
    def end(self, index: int, ending: Ending) -> None:
        child = self.children[index]
        ring: Any = child.link
        if not self._running(index):
            return
        # The first, which stands for the others, ends last.
        for seq in reversed(list(ring.members)):
            identifier, task, _ = self._facts(self._held(child, seq))
            verb = settle(ending, TASKS[task].ack_options())
            self.ended.add(identifier)
            document = frames.pack_store(stored(identifier)) if ending is not Ending.REJECT_REQUEUE else b""
            self._report(child, verb, ending, document, seq=seq)

    @rule(index=one_child)
    def find_it_not_due(self, index: int) -> None:
        child = self.children[index]
        ring: Any = child.link
        if ring.claimed is not None and not ring.begun:
            self._report(child, Verb.HOLD, Ending.IGNORE)

    @rule(index=one_child)
    def drain(self, index: int) -> None:
        child = self.children[index]
        self.outcomes.take(child, child.link.drain())
        self.dispatcher.balance()

    @rule(index=one_child, reason=st.sampled_from(["", "", "time_limit", "memory"]))
    def die(self, index: int, reason: str) -> None:
        child = self.children[index]
        ring: Any = child.link
        child.move(ChildState.KILLED)
        self.dispatcher.remove_child(child)
        child.kill_reason, child.kill_detail, child.exit_status = reason, 1, -9
        if ring.claimed is not None:
            told = ring.entered or reason == "time_limit"  # a limit ends its task also before the body
            deaths = self.died_started if told else self.died_unstarted
            for seq in ring.members:
                deaths[self._facts(self._held(child, seq))[0]] += 1
        self.children[index] = self._child(index)
        self.dying.append(child) if reason else self._bury(child)

    @precondition(lambda self: self.dying)
    @rule()
    def bury(self) -> None:
        """The pidfd of a killed child fires some time after the kill."""
        self._bury(self.dying.pop(0))

    def _bury(self, child: ChildProcess) -> None:
        child.move(ChildState.GONE)
        self.lost.settle(child, orderly=False)
        self.dispatcher.balance()

    @rule(index=one_child)
    def take_everything_back(self, index: int) -> None:
        child = self.children[index]
        self.dispatcher.resubmit(self.dispatcher.reclaim(child))
        self.dispatcher.remove_child(child)
        self.dispatcher.add_child(child)

    def _running(self, index: int) -> bool:
        """Whether the child is in a body; it enters the one that it has accepted."""
        self.enter(index)
        ring: Any = self.children[index].link
        return ring.claimed is not None and bool(ring.entered)

    def _report(self, child: ChildProcess, verb: Verb, ending: Ending, document: bytes = b"", seq: int = 0) -> None:
        """Report the end of one message, by default the first."""
        ring: Any = child.link
        seq = seq or ring.members[0]
        ring.outcomes.append((frames.DONE, seq, done_record(verb, ending, document)))
        ring.members.remove(seq)
        if not ring.members:
            ring.claimed, ring.begun, ring.entered = None, False, False

    def _held(self, child: ChildProcess, seq: int) -> Delivery:
        delivery = child.holding(seq)
        assert delivery is not None
        return delivery

    def _facts(self, delivery: Delivery) -> tuple[str, str, int]:
        headers: Any = decode_header(delivery.header)[0].headers
        return headers["id"], headers["task"], headers.get(DELIVERIES, 0)

    # -- what the master waits for -----------------------------------------------------------------------

    @precondition(lambda self: self.publisher.waiting)
    @rule(number=st.integers(0, 9), answer=st.sampled_from([Published.CONFIRMED] * 3 + list(Published)))
    def confirm(self, number: int, answer: Published) -> None:
        headers: Any
        key, header, _body, done = self.publisher.waiting.pop(number % len(self.publisher.waiting))
        if key.startswith("turbo.lease."):
            headers = decode_header(header)[0].headers
            copy = Message(headers["id"], headers["task"], header)
            if answer is Published.CONFIRMED:
                (self.broker.copies if self.broker.up else self.broker.queue).append(copy)
            else:
                self.uncounted.add(headers["id"])
        elif key == QUEUE:
            headers = decode_header(header)[0].headers
            if answer is Published.CONFIRMED:
                self.broker.queue.append(Message(headers["id"], headers["task"], header))
            else:
                self.faulted.add(headers["id"])
        elif answer is not Published.CONFIRMED:
            self.faulted.update(self.starts)
        before = len(self.broker.acked)
        if done is not None:
            done(answer)
        if key == QUEUE and answer is not Published.CONFIRMED:
            assert len(self.broker.acked) == before, "acknowledged although its copy was not taken"
        self.dispatcher.balance()

    @precondition(lambda self: self.store.waiting)
    @rule(number=st.integers(0, 9), answer=st.sampled_from([StoreOutcome.STORED] * 3 + list(StoreOutcome)))
    def answer_store(self, number: int, answer: StoreOutcome) -> None:
        write, done = self.store.waiting.pop(number % len(self.store.waiting))
        if not answer.ok:
            self.faulted.add(write.task_id)
        if answer is StoreOutcome.REFUSED:
            self.refused.add(write.task_id)
        before = len(self.broker.acked)
        done(answer)
        # An early one that has started is acknowledged whatever comes of it, and so is its copy after a lost session.
        # One that will never be stored ends as failed, by the table of acknowledgements, also if that is not stored.
        early = write.task_id.startswith("early") and write.task_id in self.accepted
        if answer is StoreOutcome.FAILED and not early and write.task_id not in self.refused:
            assert write.task_id not in [m.id for m in self.broker.acked[before:]], "acknowledged, and not stored"
        self.dispatcher.balance()

    @precondition(lambda self: self.shelf.held)
    @rule()
    def come_due(self) -> None:
        delivery = self.shelf.held.pop(0)
        if delivery.state is State.HELD:
            self.intake.due(delivery)

    @precondition(lambda self: len(self.rate_limits))
    @rule(times=COUNT)
    def wait_for_tokens(self, times: int) -> None:
        """Half a second, which is one token, several times."""
        for _ in range(times):
            self.loop.now += 0.5
            self.loop.fire(self.rate_limits)

    @precondition(lambda self: self.batches.collected)
    @rule()
    def end_an_interval(self) -> None:
        self.loop.fire(self.batches)

    @rule(rate=st.sampled_from([0.0, 0.5, 2.0]))
    def change_the_rate(self, rate: float) -> None:
        self.rate_limits.change("limited", rate)

    # -- what must hold ----------------------------------------------------------------------------------

    def __init__(self) -> None:
        super().__init__()
        self.dying: list[ChildProcess] = []

    @invariant()
    def the_ledger_has_what_the_broker_waits_for(self) -> None:
        if not hasattr(self, "ledger"):
            return
        unsettled = {delivery.tag for delivery in self.ledger}
        arriving = {move.tag for move in self.leases.copies._moves.values()}
        returning = {tag for _epoch, tag in self.ends.returning}
        assert set(self.broker.unacked) <= unsettled | arriving | returning
        assert self.ledger.bytes_held == sum(delivery.size for delivery in self.ledger)
        for delivery in self.ledger:
            if not delivery.acked:
                assert delivery.tag in self.broker.unacked

    @invariant()
    def each_unsettled_delivery_is_somewhere(self) -> None:
        if not hasattr(self, "ledger"):
            return
        everyone = [*self.children, *self.dying]
        held = Counter(id(d) for child in everyone for d in (*child.assigned.values(), *child.parked.values()))
        ready = [delivery for first in self.dispatcher._ready for delivery in (first, *first.followers)]
        queued = [*ready, *self.suspects._round, *self.suspects._waiting]
        waiting = Counter(id(d) for d in queued if d.state in (State.READY, State.SUSPECT))
        assert all(count == 1 for count in (held + waiting).values()), "a delivery is in two places"
        held_back = {id(d) for d in (*self.shelf.held, *self.paused_queues)}
        held_back |= {id(d) for line in self.rate_limits._lines for d in line.waiting}
        held_back |= {id(d) for line in self.batches._lines for d in line.waiting}
        copies = {id(d) for held_copies in self.redelivery_guard._copies.values() for d in held_copies}
        for delivery in self.ledger:
            places = {
                State.READY: {*waiting, *self._elsewhere()},
                State.SUSPECT: {*waiting, *self._elsewhere()},
                State.HELD: held_back | copies,
                State.DISPATCHED: held,
                State.STARTED: held,
            }.get(delivery.state)
            assert places is None or id(delivery) in places, delivery.state
        credit = sum(max(0, len(child.assigned) - 1) for child in self.children)
        assert self.dispatcher.ahead == credit

    def _elsewhere(self) -> set[int]:
        """Ids of the objects of deliveries that wait for something that this machine does not have."""
        return set()

    @invariant()
    def what_was_delivered_before_runs_counted(self) -> None:
        """The copy of a suspect that a child has counts one death more than its message, unless it could not."""
        if not hasattr(self, "ledger"):
            return
        for delivery in self.ledger:
            given = delivery.state in (State.DISPATCHED, State.STARTED) and delivery.waits_as is State.SUSPECT
            identifier, _task, deaths = self._facts(delivery)
            if not given or deaths >= MOST or identifier in self.uncounted:
                continue
            assert delivery.lease, "a suspect runs uncounted"
            headers: Any = decode_header(self.broker.unacked[delivery.tag].header)[0].headers
            assert headers[DELIVERIES] == deaths + 1

    @invariant()
    def no_child_gets_what_waits_in_a_paused_queue(self) -> None:
        if not hasattr(self, "ledger") or QUEUE not in self.paused_queues.names:
            return
        unstarted = [d for d in self.ledger if not d.acked and d.state in (State.READY, State.SUSPECT)]
        assert not [d for d in unstarted if d in self.dispatcher._ready], "it would run"

    @invariant()
    def what_waits_for_a_token_is_counted(self) -> None:
        if not hasattr(self, "ledger"):
            return
        lines = list(self.rate_limits._lines)
        assert len(self.rate_limits) == sum(len(line.waiting) for line in lines)
        assert all(line.timer is not None for line in lines if line.waiting), "it would wait for ever"

    @invariant()
    def a_batch_waits_for_its_interval(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for line in self.batches._lines:
            assert (line.timer is not None) == bool(line.waiting)
            assert len(line.waiting) < line.batch.size

    @invariant()
    def the_last_chance_runs_alone(self) -> None:
        if not hasattr(self, "ledger"):
            return
        charged = [d for d, last in self.suspects._charged.items() if d.state in (State.DISPATCHED, State.STARTED)]
        if any(self.suspects._charged[delivery] for delivery in charged):
            assert len(charged) == 1

    @invariant()
    def a_copy_is_held_only_for_a_run_that_goes_on(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for identifier, copies in self.redelivery_guard._copies.items():
            first = self.redelivery_guard._running.get(identifier)
            assert not copies or (first is not None and first.state not in (State.SETTLED, State.VOID)), identifier

    @invariant()
    def nothing_early_starts_twice_without_a_fault(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for identifier, count in self.starts.items():
            if identifier in self.broker.taken_back or identifier in self.faulted:
                continue
            if identifier.startswith("early"):
                assert count == 1
            if identifier.startswith("strict"):
                assert self.died_started[identifier] <= MOST
            if identifier.startswith("counted"):
                assert self.died_started[identifier] <= ATTEMPTS

    def teardown(self) -> None:
        """Let everything come to its end: then nothing may be left, and nothing may have vanished."""
        if not hasattr(self, "ledger"):
            return
        if not self.broker.up:
            self.open()
        self.resume_queue()
        for _ in range(200):
            self._go_on()
            if not self._anything_left():
                break
        assert not self._anything_left(), self._left()
        answered = {m.id for m in (*self.broker.acked, *self.broker.dead)}
        assert {m.id for m in self.sent} <= answered
        for message in self.sent:
            silent = self.died_unstarted[message.id] >= MOST
            assert message.id in self.ended or self.died_started[message.id] or silent, f"{message.id} vanished"
        assert len(self.ledger) == 0
        assert self.ledger.running_void == 0
        assert not self.redelivery_guard._running

    def _go_on(self) -> None:
        self.deliver(10)
        if self.broker.copies:
            self.deliver_copies()
        while self.dying:
            self.bury()
        while self.shelf.held:
            self.come_due()
        for _ in range(10):
            self.wait_for_tokens(4)
        self.end_an_interval()
        for index in range(CHILDREN):
            self.claim(index)
            self.start(index)
            self.end(index, Ending.SUCCESS)
            self.drain(index)
        self.turn_the_loop()
        while self.publisher.waiting:
            self.confirm(0, Published.CONFIRMED)
        if self.suspects._waiting:
            self.look_at_those_that_wait()
        while self.store.waiting:
            self.answer_store(0, StoreOutcome.STORED)

    def _anything_left(self) -> bool:
        busy = any(child.assigned or child.parked or child.link.outcomes for child in self.children)  # type: ignore[attr-defined]
        asked = self.publisher.waiting or self.store.waiting
        return bool(busy or asked or self.broker.queue or self.broker.unacked or self.shelf.held or len(self.ledger))

    def _left(self) -> str:
        return f"queue {len(self.broker.queue)}, ledger {[(d.tag, d.state.name) for d in self.ledger]}"


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Deaths by the thousand are logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


LedgerMachine.TestCase.settings = settings(max_examples=examples(50), stateful_step_count=60)


@pytest.mark.timeout(400)  # a failure takes minutes to be made small
@pytest.mark.row("CN10", "CN11", "P6")
class TestLedger(LedgerMachine.TestCase):  # type: ignore[misc]
    """The machine above."""


def test_a_run_that_ends_between_two_sessions_is_not_repeated() -> None:
    machine = LedgerMachine()
    machine.begin()
    machine.send_and_begin("late", 1, list(range(CHILDREN)))
    machine.lose_session()
    for index in range(CHILDREN):
        machine.end_and_drain(index, Ending.SUCCESS)
    machine.answer_store(0, StoreOutcome.STORED)
    machine.open()
    machine.deliver(1)
    assert [m.id for m in machine.broker.acked] == ["late-0"]
    assert machine.starts == {"late-0": 1}
    assert not machine.redelivery_guard.watching
    machine.teardown()


def test_a_copy_waits_for_the_run_that_goes_on_and_is_not_run_after_it() -> None:
    machine = LedgerMachine()
    machine.begin()
    machine.send_and_begin("late", 1, list(range(CHILDREN)))
    machine.lose_session()
    machine.open()
    machine.deliver(1)
    assert [d.state for d in machine.ledger] == [State.HELD]
    for index in range(CHILDREN):
        machine.end_and_drain(index, Ending.SUCCESS)
    machine.answer_store(0, StoreOutcome.STORED)
    assert [m.id for m in machine.broker.acked] == ["late-0"]
    assert machine.starts == {"late-0": 1}
    machine.teardown()


def test_the_ledger_counts_what_it_holds() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    first, second, third = (Delivery(1, "q", tag, b"", b"head", b"body") for tag in (1, 2, 3))
    for delivery in (first, second, third):
        ledger.add(delivery)
    assert (len(ledger), ledger.received, ledger.settled, ledger.bytes_held, ledger.newest) == (3, 3, 0, 24, 3)
    ledger.remove(first)
    ledger.remove(first)
    assert (len(ledger), ledger.received, ledger.settled, ledger.bytes_held, ledger.newest) == (2, 3, 1, 16, 3)
    for tag in (4, 5):
        ledger.replace_tag(second, tag, "lease")
    assert (ledger.leased, ledger.newest, [delivery.tag for delivery in ledger]) == (1, 5, [3, 5])
    assert ledger.up_to(4) == [third]
    assert ledger.up_to(5) == [third, second]
    ledger.remove(second)
    assert (ledger.leased, ledger.settled, ledger.bytes_held) == (0, 2, 8)


def test_the_ledger_keeps_what_runs_beyond_its_connection() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    running, waiting, cancelled, other = (Delivery(1, "q", tag, b"", b"head", b"") for tag in (1, 2, 3, 4))
    for delivery in (running, waiting, cancelled, other):
        ledger.add(delivery)
    ledger.replace_tag(cancelled, 9, "lease")
    cancelled.state = running.state = State.STARTED
    ledger.void([cancelled])
    assert (len(ledger), ledger.leased, ledger.bytes_held, ledger.running_void) == (3, 0, 12, 1)
    ledger.void([cancelled])
    assert (len(ledger), ledger.leased, ledger.bytes_held, ledger.running_void) == (3, 0, 12, 1)
    with pytest.raises(RuntimeError, match="3 deliveries of epoch 1"):
        ledger.begin_epoch(2)
    waiting.state = other.state = State.VOID
    ledger.replace_tag(other, 10, "lease")
    assert ledger.void_epoch() == [running, waiting, other]
    assert (len(ledger), ledger.epoch, ledger.bytes_held, ledger.leased, ledger.running_void) == (0, 0, 0, 0, 2)
    ledger.begin_epoch(2)
    assert ledger.newest == 0
    ledger.remove(running)
    ledger.remove(cancelled)
    assert (ledger.running_void, ledger.settled) == (0, 0)
