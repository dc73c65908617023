"""The rings against a deque: every mix of operations, with positions near 2^31, 2^32 and 2^63."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections import deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.harness.examples import examples
from turbo.ring.child_link import ChildLink
from turbo.ring.layout import (
    HEADER,
    W_OUTCOME_HEAD,
    W_OUTCOME_TAIL,
    W_TASK_HEAD,
    W_TASK_TAIL,
    RingCorrupt,
    inline_limit,
)
from turbo.ring.master_link import MasterLink
from turbo.ring.outcome_ring import OutcomeConsumer, OutcomeProducer
from turbo.ring.task_ring import TaskConsumer, TaskProducer

CAPACITY = 1024
ORIGINS = [0, 8, 1000, 2**31 - 64, 2**31, 2**32 - 512, 2**63 - 1024, 2**63 - 8, 2**63 + 16]
BODIES = st.binary(max_size=inline_limit(CAPACITY))
KINDS = st.integers(1, 2**31 - 1)
SETTINGS = settings(
    max_examples=examples(50), stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


def padded_end(tail: int, size: int) -> int:
    """Where a record of ``size`` payload bytes staged at ``tail`` ends: the model's own arithmetic."""
    total = (HEADER + size + 7) // 8 * 8
    room = CAPACITY - tail % CAPACITY
    return tail + total + (room if total > room else 0)


class TaskRingMachine(RuleBasedStateMachine):
    """Stage, commit, take back, claim, release in any order."""

    @initialize(origin=st.sampled_from(ORIGINS))
    def start(self, origin: int) -> None:
        self.page_memory = mmap.mmap(-1, 4096)
        self.page = memoryview(self.page_memory).cast("Q")
        self.page[W_TASK_HEAD] = origin
        self.memory = mmap.mmap(-1, CAPACITY)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self.producer = TaskProducer(self.memory, self.page, self.fd, 5, origin)
        self.consumer = TaskConsumer(self.memory, self.page, self.fd, 5)
        self.next_seq = 1
        self.tail = self.head = origin
        #: (start, end, record) of everything staged or published and not yet claimed, oldest first.
        self.model: deque[tuple[int, int, tuple[int, int, bytes]]] = deque()
        self.staged = 0
        self.claimed: list[int] = []
        self.released = 0

    @rule(kind=KINDS, body=BODIES)
    def stage(self, kind: int, body: bytes) -> None:
        end = padded_end(self.tail, len(body))
        fits = end - self.head <= CAPACITY
        assert self.producer.stage(kind, self.next_seq, body) is fits
        if fits:
            self.model.append((self.tail, end, (kind, self.next_seq, body)))
            self.tail = end
            self.staged += 1
            self.next_seq += 1

    @rule()
    def commit(self) -> None:
        self.producer.commit()
        self.staged = 0

    @rule()
    def take_back(self) -> None:
        got = self.producer.take_back()
        if not self.model:
            assert got is None
            return
        start, _, (_, seq, _) = self.model.pop()
        assert got == seq
        self.tail = start
        self.staged = max(0, self.staged - 1)

    @rule(claimed=st.booleans())
    def damage_the_tail_word(self, claimed: bool) -> None:
        self.page[W_TASK_TAIL] = self.head if claimed else 2**64 - 1

    @rule()
    def claim(self) -> None:
        got = self.consumer.claim()
        if got is None and len(self.model) > self.staged:
            # The tail word may hide a record once; the token decides.
            assert self.page[W_TASK_TAIL] == self.head
            got = self.consumer.claim()
        if len(self.model) == self.staged:
            assert got is None
            return
        _, end, record = self.model.popleft()
        assert got == record
        self.head = end
        self.claimed.append(record[1])

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.claimed:
            upto = data.draw(st.integers(0, len(self.claimed) - 1))
            self.producer.release(self.claimed[upto])
            self.released = max(self.released, self.claimed[upto])

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "producer"):
            held = [seq for seq in self.claimed if seq > self.released]
            assert self.producer.unreleased() == len(held) + len(self.model)

    def teardown(self) -> None:
        if not hasattr(self, "producer"):
            return
        left, unclaimed = self.producer.collect_dead()
        assert left == [seq for seq in self.claimed if seq > self.released]
        assert unclaimed == [record[1] for _, _, record in self.model]
        for each in (self.producer, self.consumer):
            each.close()
        self.page.release()
        self.memory.close()
        self.page_memory.close()
        os.close(self.fd)


class OutcomeRingMachine(RuleBasedStateMachine):
    """Emit, signal, drain, and at the end the drain of a dead child."""

    @initialize(origin=st.sampled_from(ORIGINS))
    def start(self, origin: int) -> None:
        self.page_memory = mmap.mmap(-1, 4096)
        self.page = memoryview(self.page_memory).cast("Q")
        self.page[W_OUTCOME_HEAD] = self.page[W_OUTCOME_TAIL] = origin
        self.memory = mmap.mmap(-1, CAPACITY)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.producer = OutcomeProducer(self.memory, self.page, self.fd, 9)
        self.consumer = OutcomeConsumer(self.memory, self.page, self.fd, 9, origin)
        self.tail = self.head = origin
        self.model: deque[tuple[int, tuple[int, int, bytes]]] = deque()
        self.unsignalled = 0

    @rule(kind=KINDS, seq=st.integers(0, 2**64 - 1), body=BODIES)
    def emit(self, kind: int, seq: int, body: bytes) -> None:
        end = padded_end(self.tail, len(body))
        fits = end - self.head <= CAPACITY
        assert self.producer.emit(kind, seq, body) is fits
        if fits:
            self.model.append((end, (kind, seq, body)))
            self.tail = end
            self.unsignalled += 1

    @rule()
    def signal(self) -> None:
        self.producer.signal()
        self.unsignalled = 0

    @rule()
    def drain(self) -> None:
        expected = [self.model.popleft() for _ in range(len(self.model) - self.unsignalled)]
        assert self.consumer.drain() == [record for _, record in expected]
        if expected:
            self.head = expected[-1][0]

    @rule()
    def drain_early(self) -> None:
        assert self.consumer.drain_early() == [record for _, record in self.model]
        if self.model:
            self.head = self.model[-1][0]
        self.model.clear()
        self.unsignalled = 0

    @precondition(lambda self: self.model)
    @rule(at=st.integers(0, 23))
    def look_early_at_bytes_that_are_not_visible_yet(self, at: int) -> None:
        # The header of the oldest record, as a weakly ordered machine may show it: some of its bytes are old ones.
        size = padded_end(0, len(self.model[0][1][2]))
        place = (self.model[0][0] - size) % CAPACITY + at
        self.memory[place] ^= 0xFF
        assert self.consumer.drain_early() == []
        self.memory[place] ^= 0xFF

    def teardown(self) -> None:
        if not hasattr(self, "producer"):
            return
        assert self.consumer.drain_dead() == [record for _, record in self.model]
        for each in (self.producer, self.consumer):
            each.close()
        self.page.release()
        self.memory.close()
        self.page_memory.close()
        os.close(self.fd)


class LinkMachine(RuleBasedStateMachine):
    """Both directions through the links, with oversize bodies among them and a death at the end."""

    @initialize(origin=st.sampled_from([origin for origin in ORIGINS if origin % 8 == 0]))
    def start(self, origin: int) -> None:
        self.master = MasterLink(3, task_capacity=CAPACITY, outcome_capacity=CAPACITY, origin=origin)
        self.child = ChildLink.attach(3, [os.dup(fd) for fd in self.master.child_fds()])
        self.master.close_child_fds()
        self.waiting: deque[tuple[int, int, bytes]] = deque()
        self.staged: list[tuple[int, int, bytes]] = []
        self.running: tuple[int, int, bytes] | None = None

    @rule(kind=KINDS, parts=st.lists(st.binary(max_size=300), max_size=3))
    def stage(self, kind: int, parts: list[bytes]) -> None:
        seq = self.master.stage(kind, parts)
        if seq is not None:
            self.staged.append((kind, seq, b"".join(parts)))

    @rule()
    def commit(self) -> None:
        self.master.commit()
        self.waiting.extend(self.staged)
        self.staged.clear()

    @rule()
    def take_back(self) -> None:
        pile = self.staged or self.waiting
        assert self.master.take_back() == (pile.pop()[1] if pile else None)

    @precondition(lambda self: self.running is None)
    @rule()
    def claim(self) -> None:
        got = self.child.claim()
        assert got == (self.waiting.popleft() if self.waiting else None)
        self.running = got

    @precondition(lambda self: self.running is not None)
    @rule(result=st.binary(max_size=300))
    def finish(self, result: bytes) -> None:
        kind, seq, _ = self.running
        self.child.emit(kind, seq, [result[:7], result[7:]])
        self.child.signal()
        assert self.master.drain() == [(kind, seq, result)]
        self.master.release(seq)
        self.running = None

    def teardown(self) -> None:
        if not hasattr(self, "master"):
            return
        if self.running is not None:
            self.child.emit(7, self.running[1], [b"last"])
        found = self.master.post_mortem()
        assert found.corrupt is None
        assert found.outcomes == ([(7, self.running[1], b"last")] if self.running else [])
        assert found.unclaimed == [seq for _, seq, _ in [*self.waiting, *self.staged]]
        assert found.claimed == (self.running[1] if self.running else None)
        assert found.started is (self.running is not None)
        self.child.close()
        self.master.close()
        self.master.close()


for machine in (TaskRingMachine, OutcomeRingMachine, LinkMachine):
    machine.TestCase.settings = SETTINGS
TestTaskRing = TaskRingMachine.TestCase
TestOutcomeRing = OutcomeRingMachine.TestCase
TestLink = LinkMachine.TestCase


@pytest.fixture
def links():
    with contextlib.ExitStack() as stack:
        master = MasterLink(1, task_capacity=CAPACITY, outcome_capacity=CAPACITY)
        stack.callback(master.close)
        child = ChildLink.attach(1, [os.dup(fd) for fd in master.child_fds()])
        stack.callback(child.close)
        yield master, child


def test_done_without_signal_then_started_is_one_wakeup_of_two_records(links):
    master, child = links
    for body in (b"a", b"b"):
        master.stage(1, [body])
    master.commit()
    _, first, _ = child.claim()
    child.emit(4, first, [b"done"])
    assert master.drain() == []
    _, second, _ = child.claim()
    child.emit(3, second, [b"started"])
    child.signal()
    assert master.drain() == [(4, first, b"done"), (3, second, b"started")]
    assert master.behind() == 0


def test_a_quiet_start_is_seen_early_and_signalled_with_its_end(links):
    master, child = links
    master.page.set_looks(True)
    assert child.claim() is None
    master.stage(1, [b"a"])
    master.commit()
    _, first, _ = child.claim()
    child.emit(3, first, [b"started"])
    child.signal_start()
    assert master.drain() == []
    assert master.drain_early() == [(3, first, b"started")]
    child.emit(4, first, [b"done"])
    child.signal()
    assert master.drain() == [(4, first, b"done")]
    assert master.drain_early() == []


@pytest.mark.parametrize("looks", [False, True])
def test_a_start_with_another_record_behind_it_is_signalled(links, looks):
    master, child = links
    master.page.set_looks(looks)
    for body in (b"a", b"b"):
        master.stage(1, [body])
    master.commit()
    for _ in range(2):
        _, seq, _ = child.claim()
        child.emit(3, seq, [])
        child.signal_start()
        assert master.drain() == [(3, seq, b"")]


def test_a_start_is_signalled_while_nobody_looks(links):
    master, child = links
    assert child.claim() is None
    master.stage(1, [b"a"])
    master.commit()
    _, seq, _ = child.claim()
    child.emit(3, seq, [])
    child.signal_start()
    assert master.drain() == [(3, seq, b"")]


def test_post_mortem_counts_an_end_among_the_last_outcomes(links):
    master, child = links
    for body in (b"a", b"b", b"c"):
        master.stage(1, [body])
    master.commit()
    _, first, _ = child.claim()
    child.emit(4, first, [b""])
    _, second, _ = child.claim()
    found = master.post_mortem(final_kinds=(4,))
    assert (found.claimed, found.started, found.unclaimed, found.left) == (second, True, [3], (second,))
    assert found.corrupt is None


def test_post_mortem_names_a_child_that_claimed_two(links):
    master, child = links
    for body in (b"a", b"b"):
        master.stage(1, [body])
    master.commit()
    child.claim(), child.claim()
    assert "only the last" in master.post_mortem(final_kinds=(4,)).corrupt


def test_more_tokens_than_records_is_corrupt(links):
    master, child = links
    os.eventfd_write(child._token_fd, 2)
    assert "2 tokens for 0 records" in master.post_mortem().corrupt


def test_token_without_record_is_found_at_the_take_back(links):
    master, child = links
    os.eventfd_write(child._token_fd, 1)
    with pytest.raises(RingCorrupt, match="without a record"):
        master.take_back()


def test_record_taken_back_and_staged_again_gets_a_new_sequence(links):
    master, child = links
    assert master.stage(1, [b"x"]) == 1
    master.commit()
    assert master.take_back() == 1
    assert child.claim() is None
    assert master.stage(1, [b"x"]) == 2
    master.commit()
    assert child.claim() == (1, 2, b"x")


def test_take_back_undoes_the_padding_too():
    room = 64
    with contextlib.closing(MasterLink(1, task_capacity=CAPACITY, origin=CAPACITY - room)) as master:
        ring = master._tasks
        master.stage(1, [b"l" * 100])
        assert ring._tail == CAPACITY + 128
        master.commit()
        master.take_back()
        assert ring._tail == CAPACITY - room
        master.stage(1, [b"short"])
        assert ring._mapping[CAPACITY - room + HEADER : CAPACITY - room + HEADER + 5] == b"short"


def test_big_bodies_both_ways_and_taken_back_ones_free_their_memory(links):
    master, child = links
    stale = master.stage(1, [b"s" * 5_000_000])
    master.commit()
    kept = os.dup(master._bodies[stale].fd)
    assert master.take_back() == stale
    assert os.fstat(kept).st_size == 0
    os.close(kept)
    seq = master.stage(2, [b"h", b"b" * 3_000_000])
    master.commit()
    assert child.claim() == (2, seq, b"h" + b"b" * 3_000_000)
    child.emit(3, seq, [b"r" * 2_000_000, b"t"])
    child.emit(3, seq, [b"q" * 2_000])
    child.signal()
    assert master.drain() == [(3, seq, b"r" * 2_000_000 + b"t"), (3, seq, b"q" * 2_000)]
    master.release(seq)
    assert master._bodies == {}


def test_a_body_that_finds_no_memory_leaves_no_record_behind(links, monkeypatch):
    master, child = links

    def create(*_: object) -> int:
        raise OSError(errno.EMFILE, "no descriptor")

    with monkeypatch.context() as patched:
        patched.setattr(os, "memfd_create", create)
        with pytest.raises(OSError, match="no descriptor"):
            master.stage(1, [b"x" * 100_000])
    seq = master.stage(1, [b"small"])
    master.commit()
    assert child.claim() == (1, seq, b"small")
    assert child.claim() is None


def test_too_many_unread_bodies_are_full_and_an_idle_child_clears_them(links):
    master, child = links
    taken_back = 0
    while (seq := master.stage(1, [b"x" * 2000])) is not None:
        taken_back += 1
        assert master.take_back() == seq
        assert taken_back < 2000, "the channel never filled"
    assert master.stage(1, [b"small"]) is not None
    master.commit()
    child.wait()
    child._inbox.collect(child._words[64])
    assert child._inbox._waiting == {}
    assert child.claim()[2] == b"small"
    assert master.stage(1, [b"y" * 2000]) is not None
    master.commit()
    assert child.claim()[2] == b"y" * 2000


def test_links_refuse_impossible_arguments():
    for wrong in ({"task_capacity": 1000}, {"outcome_capacity": 512}, {"origin": 3}):
        with pytest.raises(ValueError):
            MasterLink(1, **wrong)
    with pytest.raises(ValueError):
        MasterLink(2**32)
    with pytest.raises(ValueError):
        MasterLink(-1)


def test_attaching_to_another_epoch_is_refused(links):
    master, _ = links
    with pytest.raises(RingCorrupt, match="not that of epoch 2"):
        ChildLink.attach(2, master.child_fds())


def test_the_childs_mapping_of_its_tasks_is_read_only(links):
    _, child = links
    with pytest.raises(TypeError):
        child._mappings[0][0] = 1


def test_the_masters_mapping_of_outcomes_is_read_only(links):
    master, _ = links
    with pytest.raises(TypeError):
        master._outcomes._mapping[0] = 1


def test_the_page_adds_up_for_how_long_the_worker_was_stopped(links):
    master, child = links
    assert child.page.stopped_ns() == 0
    master.page.add_stopped(5)
    master.page.add_stopped(7)
    assert child.page.stopped_ns() == 12


def test_page_groups_are_read_whole_or_not_at_all(links):
    master, child = links
    assert master.page.running() is None
    child.page.enter_body(7, soft_ns=10, hard_ns=20, started_ns=5)
    running = master.page.running()
    assert (running.seq, running.in_body, running.soft_deadline_ns) == (7, True, 10)
    assert (running.hard_deadline_ns, running.started_ns) == (20, 5)
    child.page.leave_body()
    assert master.page.running().in_body is False
    assert master.page.running().hard_deadline_ns == 20
    child.page.finished()
    assert master.page.running() is None
    master.page.set_soft(7)
    assert child.page.soft_named() == 7
    child.page.hello(123)
    assert master.page.hello() == 123
