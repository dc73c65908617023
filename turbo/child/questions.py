"""Waits until the master has stored a document, before a task's hooks.

Runs in a child. ``child.endings`` asks, with the document; the master stores it and answers on the control page, in the
place that follows from the question's ticket. A task that is a function waits here; a task that is a coroutine lets the
others run meanwhile. Any number of coroutines may wait, each with a place of its own; a place is free again once its
answer has been read. Tickets only rise, also when a task asks again, so an old answer is never taken for a new one. It
must never reuse a place whose question is open.
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
    """A question to the master, and the call to make with its answer."""

    __slots__ = ("seq", "then")

    def __init__(self, seq: int, then: Callable[[bool], Asked | None]) -> None:
        self.seq = seq
        #: Continues the task's end; takes whether the document is stored, returns the next question, if any.
        self.then = then


class Questions:
    """The open questions of one child. A task has one at a time."""

    def __init__(self, link: ChildLink) -> None:
        self._link = link
        #: The ticket given last.
        self._ticket = 0
        #: By sequence number: the tickets of open questions, the answers not yet taken, and the futures of coroutines
        #: that wait for an answer.
        self._tickets: dict[int, int] = {}
        self._answers: dict[int, bool] = {}
        self._sleepers: dict[int, asyncio.Future[None]] = {}

    def ask(self, seq: int, verb: Verb | None, store: bytes) -> None:
        """Ask the master to store a packed document; ``verb`` as in ``frames.Asked``.

        The waiting method signals. Without a document, the master answers when the broker has confirmed or refused
        everything that the task sent.
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
        """Block until the question is answered; return whether the document is stored."""
        while True:
            self._collect()
            if seq in self._answers:
                return self._answers.pop(seq)
            self._link.await_answer()

    async def arrival(self, seq: int) -> bool:
        """Await the answer while other coroutines run.

        Return whether the document is stored.
        """
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
