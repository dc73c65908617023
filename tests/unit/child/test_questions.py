"""Questions to the master and their answers, over real rings that nobody else holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest

from turbo.child.questions import Questions
from turbo.policy.settling import Verb
from turbo.ring import frames
from turbo.ring.layout import ANSWER_PLACES
from turbo.ring.link import ChildLink, MasterLink

STORE = frames.pack_store(frames.StoreRequest("id", b"{}", False, "", "id", "application/json", "utf-8"))


class Pair:
    """Both ends of one child's rings; the master's answers what it drains, by the test's word."""

    def __init__(self, master: MasterLink, child: ChildLink) -> None:
        self.master = master
        self.child = child
        self.questions = Questions(child)
        self.asked: list[tuple[int, frames.Asked]] = []

    def drain(self) -> None:
        self.child.signal()
        for kind, seq, payload in self.master.drain():
            assert kind == frames.ASKED
            self.asked.append((seq, frames.unpack_asked(payload)))

    def answer(self, seq: int, yes: bool) -> None:
        self.master.answer([asked.ticket for number, asked in self.asked if number == seq][-1], yes)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.closing(MasterLink(1)) as master:
        child = ChildLink.attach(1, [os.dup(fd) for fd in master.child_fds()])
        master.close_child_fds()
        with contextlib.closing(child):
            yield Pair(master, child)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("verb", [Verb.ACK, Verb.REQUEUE, None])
def test_one(pair: Pair, yes: bool, verb: Verb | None) -> None:
    pair.questions.ask(7, verb, STORE)
    pair.drain()
    ((seq, asked),) = pair.asked
    assert (seq, asked.verb, asked.store) == (7, verb, frames.unpack_store(STORE))
    pair.answer(7, yes)
    assert pair.questions.wait(7) is yes


def test_an_earlier_answer_in_the_same_place_is_no_answer(pair: Pair) -> None:
    for seq in range(1, ANSWER_PLACES + 2):
        pair.questions.ask(seq, Verb.ACK, STORE)
        pair.drain()
        assert pair.child.page.answer(pair.asked[-1][1].ticket) is None
        pair.answer(seq, seq == 1)
        assert pair.questions.wait(seq) is (seq == 1)
    first, last = pair.asked[0][1].ticket, pair.asked[-1][1].ticket
    assert first % ANSWER_PLACES == last % ANSWER_PLACES


def test_a_task_asks_again_and_is_answered_again(pair: Pair) -> None:
    """Also where every other place is taken by coroutines that wait."""
    for seq in range(2, ANSWER_PLACES + 1):
        pair.questions.ask(seq, Verb.ACK, STORE)
    pair.questions.ask(1, None, STORE)
    pair.drain()
    pair.answer(1, True)
    assert pair.questions.wait(1)
    pair.questions.ask(1, Verb.ACK, b"")
    pair.drain()
    before, again = pair.asked[-2][1], pair.asked[-1][1]
    assert before.ticket % ANSWER_PLACES == again.ticket % ANSWER_PLACES
    assert pair.child.page.answer(again.ticket) is None
    assert (again.verb, again.store) == (Verb.ACK, None)
    pair.answer(1, False)
    assert pair.questions.wait(1) is False


def test_as_many_as_there_are_places_and_more(pair: Pair) -> None:
    for seq in range(1, ANSWER_PLACES + 1):
        pair.questions.ask(seq, Verb.ACK, STORE)
    pair.drain()
    assert len({asked.ticket % ANSWER_PLACES for _, asked in pair.asked}) == ANSWER_PLACES
    pair.answer(5, True)
    # Finds no place, and waits for the answer that makes one free.
    pair.questions.ask(1000, Verb.ACK, STORE)
    pair.drain()
    pair.answer(1000, True)
    pair.answer(9, False)
    assert pair.questions.wait(1000)
    assert pair.questions.wait(5)
    assert pair.questions.wait(9) is False


def test_coroutines_wait_beside_one_another(pair: Pair) -> None:
    async def one(seq: int) -> tuple[int, bool]:
        pair.questions.ask(seq, Verb.ACK, STORE)
        return seq, await pair.questions.arrival(seq)

    async def master() -> None:
        while len(pair.asked) < 5:
            await asyncio.sleep(0)
            pair.drain()
        for seq in (4, 1, 5, 2, 3):
            pair.answer(seq, seq % 2 == 0)
            await asyncio.sleep(0)

    async def all_of_them() -> list[tuple[int, bool]]:
        results = await asyncio.gather(*(one(seq) for seq in range(1, 6)), master())
        return [result for result in results if result is not None]

    assert asyncio.run(all_of_them()) == [(seq, seq % 2 == 0) for seq in range(1, 6)]


def test_an_answer_to_a_child_that_is_gone_goes_nowhere(pair: Pair) -> None:
    pair.questions.ask(1, Verb.ACK, STORE)
    pair.drain()
    pair.master.close()
    pair.answer(1, True)


@pytest.mark.parametrize("payload", [b"", b"\x00", frames.pack_asked(0, None, b"")[0],
                                     frames.pack_asked(1 << 63, None, STORE)[0] + STORE,
                                     b"".join(frames.pack_asked(0, None, STORE))[:-1]])  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(payload: bytes) -> None:
    with pytest.raises(frames.FrameError):
        frames.unpack_asked(payload)
