"""Documents that a task waits for: handlers and receivers run when its outcome is stored, not before.

Runs in a child. ``child.endings`` asks, with the document; the master stores it and answers on the control page, in
the place that follows from the question's ticket. A function's task waits here, a coroutine's lets the others run
meanwhile. Any number of coroutines may wait, each with a place of its own; a place is free again once its answer has
been seen. Tickets only rise, also when a task asks again: an answer that was seen is never found again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turbo.ring import frames
from turbo.ring.layout import ANSWER_PLACES

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.policy.settling import Verb
    from turbo.ring.link import ChildLink


class Asked:
    """A question that was put, and what to do with its answer."""

    __slots__ = ("seq", "then")

    def __init__(self, seq: int, then: Callable[[bool], Asked | None]) -> None:
        self.seq = seq
        #: Goes on with the task's end, told whether the document is stored; returns what it asks next, if anything.
        self.then = then


class Questions:
    """What this child has asked and not been answered. A task asks one thing at a time."""

    def __init__(self, link: ChildLink) -> None:
        self._link = link
        #: The ticket given last.
        self._ticket = 0
        #: By sequence number: the ticket of each question without an answer, the answers that nobody has taken yet,
        #: and the coroutines that sleep until theirs comes.
        self._tickets: dict[int, int] = {}
        self._answers: dict[int, bool] = {}
        self._sleepers: dict[int, asyncio.Future[None]] = {}

    def ask(self, seq: int, verb: Verb | None, store: bytes) -> None:
        """Have a packed document stored; ``verb`` as in ``frames.Asked``. Signalled by who waits.

        Without a document it is answered when the broker has confirmed what the task has sent, or has not taken it.
        """
        while len(self._tickets) >= ANSWER_PLACES:
            self._link.await_answer()
            self._collect()
        taken = {ticket % ANSWER_PLACES for ticket in self._tickets.values()}
        self._ticket += 1
        while self._ticket % ANSWER_PLACES in taken:
            self._ticket += 1
        self._tickets[seq] = self._ticket
        self._link.emit(frames.ASKED, seq, frames.pack_asked(self._ticket, verb, store))

    def wait(self, seq: int) -> bool:
        """Sleep until the question is answered; whether the document is stored."""
        while True:
            self._collect()
            if seq in self._answers:
                return self._answers.pop(seq)
            self._link.await_answer()

    async def arrival(self, seq: int) -> bool:
        """Let the other coroutines run until the question is answered; whether the document is stored."""
        loop = asyncio.get_running_loop()
        self._link.signal()
        self._collect()
        if seq not in self._answers:
            if not self._sleepers:
                loop.add_reader(self._link.answer_fd, self._wake)
            sleeper = self._sleepers[seq] = loop.create_future()
            try:
                await sleeper
            finally:
                self._sleepers.pop(seq, None)
                if not self._sleepers:
                    loop.remove_reader(self._link.answer_fd)
        return self._answers.pop(seq)

    def _wake(self) -> None:
        self._link.take_answers()
        self._collect()
        for seq, sleeper in self._sleepers.items():
            if seq in self._answers and not sleeper.done():
                sleeper.set_result(None)

    def _collect(self) -> None:
        page = self._link.page
        for seq, ticket in list(self._tickets.items()):
            answer = page.answer(ticket)
            if answer is not None:
                del self._tickets[seq]
                self._answers[seq] = answer
