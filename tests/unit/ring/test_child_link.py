"""When a child's link ends the process, and for which reason; what its waits return for."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from typing import NoReturn

import pytest

from turbo.ring.layout import (
    EXIT_DESCRIPTORS_LOST,
    EXIT_MASTER_GONE,
    EXIT_RING_CORRUPT,
    EXIT_STRAY_FORK,
    W_OUTCOME_HEAD,
    RingCorrupt,
    RingDetached,
    inline_limit,
)
from turbo.ring.link import ChildLink, MasterLink

CAPACITY = 1024
LARGEST = b"x" * inline_limit(CAPACITY)


class Ended(Exception):
    """Instead of the end of the process."""


def abort(code: int, why: str) -> NoReturn:
    raise Ended(code, why)


class Pair:
    """Both ends of a link, and the pipe whose end says that the master is gone."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.lifeline, self.masters_end = os.pipe()
        self.master = MasterLink(1, task_capacity=CAPACITY, outcome_capacity=CAPACITY)
        stack.callback(self.master.close)
        self.fds = [os.dup(fd) for fd in self.master.child_fds()]
        self.master.close_child_fds()
        self.child = ChildLink.attach(1, self.fds, lifeline_fd=self.lifeline, abort=abort)
        stack.callback(self.child.close)
        stack.callback(os.close, self.lifeline)

    def lose_master(self) -> None:
        os.close(self.masters_end)

    def fill(self) -> None:
        for _ in range(CAPACITY // 128):
            self.child.emit(2, 1, [LARGEST])

    def drained(self) -> int:
        return len(self.master.drain())


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield Pair(stack)


def test_a_wait_ends_with_a_record_and_signals_what_was_emitted(pair: Pair) -> None:
    pair.child.emit(2, 1, [b"done"])
    assert pair.drained() == 0
    seq = pair.master.stage(1, [b"task"])
    pair.master.commit()
    pair.child.wait()
    assert pair.drained() == 1
    assert pair.child.claim() == (1, seq, b"task")
    assert pair.master.unreleased() == 1
    assert seq is not None
    pair.master.release(seq)
    assert pair.master.unreleased() == 0


def test_a_look_signals_and_does_not_sleep(pair: Pair) -> None:
    pair.child.emit(2, 1, [b"done"])
    pair.child.look()
    assert pair.drained() == 1


def test_a_loop_of_its_own_can_wait_for_the_same(pair: Pair) -> None:
    poll = select.poll()
    for fd in pair.child.wait_fds:
        poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    pair.master.stage(1, [b"task"])
    pair.master.commit()
    assert len(poll.poll(0)) == 1
    assert pair.lifeline in pair.child.wait_fds
    pair.child.claim()
    pair.lose_master()
    assert [fd for fd, _ in poll.poll(0)] == [pair.lifeline]


def test_without_a_lifeline_there_is_none_to_wait_for() -> None:
    with contextlib.closing(MasterLink(1)) as master:
        child = ChildLink.attach(1, [os.dup(fd) for fd in master.child_fds()], abort=abort)
        with contextlib.closing(child):
            assert len(child.wait_fds) == 2
            assert all(fd >= 0 for fd in child.wait_fds)


def test_an_answer_ends_its_wait_once(pair: Pair) -> None:
    pair.child.emit(2, 1, [b"question"])
    pair.master.answer(1, True)
    pair.child.await_answer()
    assert pair.drained() == 1, "the question was signalled before the wait"
    poll = select.poll()
    poll.register(pair.child.answer_fd, select.POLLIN)
    assert poll.poll(0) == [], "the next wait sleeps until the next answer"
    assert pair.child.page.answer(1) is True


def test_every_wait_ends_with_the_master(pair: Pair) -> None:
    pair.fill()
    pair.lose_master()
    for wait in (
        pair.child.wait,
        pair.child.look,
        pair.child.await_answer,
        lambda: pair.child.emit(2, 1, [LARGEST]),
    ):
        with pytest.raises(Ended) as ended:
            wait()
        assert ended.value.args[0] == EXIT_MASTER_GONE


def test_a_full_ring_is_signalled_before_the_wait_for_room(pair: Pair) -> None:
    """The master drains only what was signalled."""
    pair.fill()
    pair.lose_master()
    with pytest.raises(Ended):
        pair.child.emit(2, 1, [LARGEST])
    assert pair.drained() == CAPACITY // 128


def test_a_corrupt_message_ends_an_idle_child(pair: Pair) -> None:
    pair.master._channel.send(b"?")
    with pytest.raises(Ended, match="message of 1 bytes") as ended:
        pair.child.look()
    assert ended.value.args[0] == EXIT_RING_CORRUPT


def test_a_lifeline_that_is_named_later_replaces_the_first(pair: Pair) -> None:
    other, others_end = os.pipe()
    pair.lose_master()
    pair.master.stage(1, [b"task"])
    pair.master.commit()
    pair.child.wait(other)
    os.close(others_end)
    with pytest.raises(Ended):
        pair.child.wait()
    os.close(other)


@pytest.mark.parametrize("index", [3, 4, 6])
def test_a_task_that_closed_a_descriptor_ends_its_child(pair: Pair, index: int) -> None:
    acts = {3: pair.child.claim, 4: pair.child.signal, 6: pair.child.take_answers}
    pair.child.emit(2, 1, [b"done"])
    kept = os.dup(pair.fds[index])
    os.close(pair.fds[index])
    with pytest.raises(Ended) as ended:
        acts[index]()
    assert ended.value.args[0] == EXIT_DESCRIPTORS_LOST
    # The link closes the number when the test ends.
    assert os.dup2(kept, pair.fds[index]) == pair.fds[index]
    os.close(kept)


def test_a_full_ring_has_room_when_the_master_has_drained(pair: Pair) -> None:
    pair.fill()
    pair.child.signal()
    assert pair.drained() == CAPACITY // 128
    pair.child.emit(2, 1, [LARGEST])
    pair.child.signal()
    assert pair.drained() == 1


@pytest.mark.parametrize("head", [8 + CAPACITY, 2**64 - 8])
def test_an_impossible_head_of_the_master_ends_the_child(pair: Pair, head: int) -> None:
    pair.fill()
    pair.master._words[W_OUTCOME_HEAD] = head
    with pytest.raises(Ended, match="the master's head") as ended:
        pair.child.emit(2, 1, [LARGEST])
    assert ended.value.args[0] == EXIT_RING_CORRUPT


def test_a_process_forked_by_a_task_can_do_nothing(pair: Pair) -> None:
    pair.child.detached = True
    with pytest.raises(RingDetached):
        pair.child.emit(2, 1, [b"done"])
    with pytest.raises(Ended) as ended:
        pair.child.wait()
    assert ended.value.args[0] == EXIT_STRAY_FORK


@pytest.mark.parametrize("index", [0, 1, 2])
def test_memory_that_could_shrink_is_refused(index: int) -> None:
    """An access beyond its end would kill the child in the middle of a record."""
    with contextlib.closing(MasterLink(1)) as master:
        fds = [os.dup(fd) for fd in master.child_fds()]
        unsealed = os.memfd_create("test")
        os.ftruncate(unsealed, os.fstat(fds[index]).st_size)
        os.write(unsealed, os.pread(fds[index], 4096, 0))
        with pytest.raises(RingCorrupt, match="sealed"):
            ChildLink.attach(1, [unsealed if at == index else fd for at, fd in enumerate(fds)])
        for fd in (*fds, unsealed):
            os.close(fd)
