"""What each side of the control page reads of what the other has written; two processes are in tests/process/ring."""

from __future__ import annotations

import mmap
import time

import pytest

from turbo.ring.control_page import ChildPage, MasterPage, Running
from turbo.ring.layout import ANSWER_PLACES, PAGE_SIZE

Pages = tuple[MasterPage, ChildPage]


@pytest.fixture
def pages() -> Pages:
    words = memoryview(mmap.mmap(-1, PAGE_SIZE)).cast("Q")
    return MasterPage(words), ChildPage(words)


def test_a_new_page_says_nothing(pages: Pages) -> None:
    master, child = pages
    assert (master.running(), master.running_seq(), master.started(), master.entered()) == (None, 0, 0, (0, 0))
    assert (master.hello(), child.soft_named(), child.condemned(), child.stopped_ns()) == (0, 0, False, 0)
    assert child.answer(1) is None
    assert not child.detached


def test_the_running_task_and_its_deadlines(pages: Pages) -> None:
    master, child = pages
    child.enter_body(7, soft_ns=10, hard_ns=20, started_ns=5)
    assert master.running() == Running(7, True, 10, 20, 5)
    assert master.running_seq() == 7
    child.leave_body()
    assert master.running() == Running(7, False, 10, 20, 5)
    child.enter_body(8, started_ns=6)
    assert master.running() == Running(8, True, 0, 0, 6), "nothing of the task before is left"
    child.finished()
    assert master.running() is None


def test_without_a_time_a_body_starts_now(pages: Pages) -> None:
    master, child = pages
    before = time.monotonic_ns()
    child.enter_body(7)
    running = master.running()
    assert running is not None
    assert before <= running.started_ns <= time.monotonic_ns()


def test_a_body_that_was_entered_stays_named_after_its_end(pages: Pages) -> None:
    """After the child's death the master must not run that task elsewhere."""
    master, child = pages
    child.begin_body(7)
    assert master.entered() == (7, 0)
    child.begin_coroutine(8)
    assert master.entered() == (7, 8)
    child.leave_body()
    child.finished()
    assert master.entered() == (7, 8)


def test_one_of_several_that_raises_leaves_later_ones_begun(pages: Pages) -> None:
    """After the child's death the later ones must not run again."""
    master, child = pages
    for seq in (8, 9):
        child.begin_coroutine(seq)
    child.end_body(8, beside=True)
    assert master.entered() == (0, 9)


def test_a_handler_that_raised_before_the_body_counts_as_the_body(pages: Pages) -> None:
    master, child = pages
    child.enter_body(7, started_ns=5)
    child.end_body(7, beside=False)
    assert master.entered() == (7, 0)
    assert master.running() == Running(7, False, 0, 0, 5), "its soft limit is over"
    child.enter_body(9, started_ns=6)
    child.end_body(8, beside=True)
    assert master.entered() == (7, 8)
    assert master.running() == Running(9, True, 0, 0, 6), "a function that runs meanwhile is still in its body"


def test_signals_that_are_meant_for_the_child(pages: Pages) -> None:
    master, child = pages
    master.set_soft(7)
    assert child.soft_named() == 7
    master.condemn(True)
    assert child.condemned()
    master.condemn(False)
    assert not child.condemned()


def test_an_answer_is_for_its_ticket_alone(pages: Pages) -> None:
    master, child = pages
    master.set_answer(1, True)
    master.set_answer(2, False)
    assert (child.answer(1), child.answer(2), child.answer(3)) == (True, False, None)
    assert child.answer(1 + ANSWER_PLACES) is None
    master.set_answer(1 + ANSWER_PLACES, False)
    assert child.answer(1 + ANSWER_PLACES) is False
    assert child.answer(1) is None
    assert child.answer(2) is False


def test_a_process_forked_by_a_task_changes_nothing(pages: Pages) -> None:
    master, child = pages
    child.enter_body(7, started_ns=5)
    child.detach()
    assert child.detached
    child.finished()
    child.hello(99)
    assert master.running_seq() == 7
    assert master.hello() == 0
