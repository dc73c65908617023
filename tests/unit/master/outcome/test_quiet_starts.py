"""No quiet start stays unseen: real rings, and every order of the steps of two children and the master.

A child's steps are those of ``child.loop``. The master's are hand-overs, wake-ups by a child's signal, and timers.
Whatever their order was: once the master has handled its wake-ups and timers, it knows each start.
"""

from __future__ import annotations

import os
import random
import select
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.examples import examples
from tests.unit.master.fakes import header_of, no_events, nobody
from tests.unit.master.outcome.test_outcomes import Nobody
from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.outcomes import Outcomes
from turbo.master.outcome.start_looks import StartLooks
from turbo.observers import Observers
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.policy.start_signals import LOUD_NS, QUIET_NS
from turbo.ring import frames
from turbo.ring.child_link import ChildLink
from turbo.ring.master_link import MasterLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DONE = frames.pack_done(Verb.ACK, Ending.SUCCESS, 0, 1000, 0, b"")
#: Records that a child holds at most in this test.
_DEPTH = 3


class Timer:
    """One call of the loop that is due later."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Child:
    """One child at each end of its link; :meth:`step` takes its next step."""

    def __init__(self, index: int) -> None:
        self.master_link = MasterLink(index)
        self.link = ChildLink.attach(index, tuple(_copies(self.master_link)))
        self.process = ChildProcess(index, index, self.master_link, 0.0, nobody)
        self.process.state = ChildState.SERVING
        #: The record in whose body the child is.
        self.body = 0
        self.may_end = False
        self._steps = self._run()

    def step(self) -> None:
        next(self._steps)

    def _run(self) -> Iterator[None]:
        while True:
            record = self.link.claim()
            yield
            if record is None:
                self.link.look()
                yield
                while not _readable(self.link.wait_fds[0]):
                    yield
                continue
            _, seq, _ = record
            self.link.emit(frames.STARTED, seq, (frames.STARTED_EARLY,))
            yield
            self.link.signal_start()
            self.body = seq
            while not self.may_end:
                yield
            self.body, self.may_end = 0, False
            self.link.emit(frames.DONE, seq, (_DONE,))
            yield

    def close(self) -> None:
        self.link.close()
        self.master_link.close()


class Worker:
    """The master, whose loop's timers and readers the test calls, and two children."""

    def __init__(self, steps: random.Random) -> None:
        self.steps = steps
        self.now = 100.0
        self.estimate_ns, self.ahead = steps.choice([QUIET_NS, LOUD_NS + 1]), steps.choice([0, 100])
        self.timers: list[Timer] = []
        self.readers: dict[int, tuple[Any, ...]] = {}
        self.on_handed_over: Observers[Any] = Observers()
        neighbour: Any = self
        settlement: Any = Nobody()
        settlement.events = no_events()
        looks = StartLooks(neighbour, neighbour)
        self.outcomes = Outcomes(neighbour, settlement, Nobody(), Nobody(), looks)  # type: ignore[arg-type]
        self.children = [Child(number) for number in (1, 2)]
        for child in self.children:
            self.outcomes.watch(neighbour, child.process)

    def close(self) -> None:
        for child in self.children:
            child.close()

    # -- the loop and the dispatcher ---------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_later(self, _delay: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(callback))
        return self.timers[-1]

    def add_reader(self, fd: int, *callback: Any) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def finished(self, _child: ChildProcess, _runtimes_ns: list[int], _followed: int) -> None:
        """The estimate is the test's."""

    def balance(self) -> None:
        """Hand-overs are the test's."""

    # -- the steps ---------------------------------------------------------------------------------------

    def child_runs(self) -> None:
        child = self.steps.choice(self.children)
        for _ in range(self.steps.randint(1, 4)):
            child.step()

    def task_ends(self) -> None:
        child = self.steps.choice(self.children)
        child.may_end = child.body != 0

    def hand_over(self) -> None:
        """A child may run between its token and the report to those who look."""
        child = self.steps.choice(self.children)
        if len(child.process.assigned) == _DEPTH:
            return
        seq = child.master_link.stage(frames.TASK, (b"",))
        assert seq is not None
        delivery = Delivery(1, "q", seq, b"", header_of(f"id-{seq}", "t"), b"")
        delivery.move(State.DISPATCHED)
        child.process.assigned[seq] = delivery
        child.master_link.commit()
        if self.steps.random() < 0.3:
            self.child_runs()
        self.on_handed_over([child.process])

    def take_back(self) -> None:
        child = self.steps.choice(self.children)
        if (seq := child.master_link.take_back()) is not None:
            del child.process.assigned[seq]

    def handle_signal(self, child: Child | None = None) -> None:
        fd = (child or self.steps.choice(self.children)).master_link.outcome_fd
        if fd in self.readers and _readable(fd):
            callback, *arguments = self.readers[fd]
            callback(*arguments)

    def timers_fire(self) -> None:
        """Those that are due may come in any order, and some of them later."""
        self.now += self.steps.choice([0.001, 0.051])
        self.steps.shuffle(self.timers)
        due = self.timers[: self.steps.randint(0, len(self.timers))]
        self.timers = self.timers[len(due) :]
        for timer in due:
            if not timer.cancelled:
                timer.callback()

    def tasks_take_another_time(self) -> None:
        self.estimate_ns = self.steps.choice([QUIET_NS, LOUD_NS, LOUD_NS + 1])

    def the_rate_becomes_high(self) -> None:
        if not self.outcomes._polling:
            self.outcomes._begin_polling()

    def settle(self) -> None:
        """Handle all timers and signals; the children do nothing meanwhile."""
        for _ in range(30):
            self.timers_fire()
            for child in self.children:
                self.handle_signal(child)


@pytest.mark.parametrize("seeds", range(10))
def test_the_master_learns_of_each_start(seeds: int) -> None:
    for seed in range(seeds, examples(300), 10):
        worker = Worker(random.Random(seed))
        steps = [
            *[worker.child_runs] * 4, *[worker.hand_over] * 3, worker.task_ends, worker.take_back,
            *[worker.handle_signal] * 2, *[worker.timers_fire] * 2, worker.tasks_take_another_time,
            worker.the_rate_becomes_high,
        ]  # fmt: skip
        try:
            for _ in range(worker.steps.randint(5, 40)):
                worker.steps.choice(steps)()
            worker.settle()
            for child in worker.children:
                if child.body:
                    assert child.process.assigned[child.body].state is State.STARTED, f"seed {seed}"
        finally:
            worker.close()


def _copies(link: MasterLink) -> Iterator[int]:
    for fd in link.child_fds():
        yield os.dup(fd)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
