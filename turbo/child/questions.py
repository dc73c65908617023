"""Waits until the master has stored a document, before a task's hooks.

Runs in a child. ``child.endings`` asks, with the document; the master stores it and answers on the control page, in the
place that follows from the question's ticket. A task that is a function waits here; a task that is a coroutine lets the
others run meanwhile. Any number of tasks may wait, each with a place of its own; a place is free again once its answer
has been read. Tickets only rise, also when a task asks again, so an old answer is never taken for a new one. It must
never reuse a place whose question is open.

Where tasks run in threads, each waits in its own thread, and the main thread reads the answers for all of them:
:meth:`Questions.serve_threads`. Whoever reads answers wakes everyone whose answer has come.
"""

from __future__ import annotations

import asyncio
import threading
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
        #: By sequence number: the tickets of open questions, the answers not yet taken, and what wakes the tasks that
        #: wait for an answer. All three change under the lock.
        self._tickets: dict[int, int] = {}
        self._answers: dict[int, bool] = {}
        self._sleepers: dict[int, Callable[[], object]] = {}
        self._lock = threading.Lock()
        #: Notified when places have become free; a thread waits for it when there is none.
        self._freed = threading.Condition(self._lock)
        #: How many coroutines wait; the loop watches the descriptor meanwhile.
        self._waiting = 0
        #: The main thread, once other threads may wait.
        self._reader: int | None = None

    def serve_threads(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read answers on this loop from now on, for threads that wait."""
        self._reader = threading.get_ident()
        loop.add_reader(self._link.answer_fd, self._wake)

    def ask(self, seq: int, verb: Verb | None, store: bytes) -> None:
        """Ask the master to store a packed document; ``verb`` as in ``frames.Asked``.

        The waiting method signals. Without a document, the master answers when the broker has confirmed or refused
        everything that the task sent.
        """
        with self._lock:
            while len(self._tickets) >= ANSWER_PLACES:
                if self._in_thread:
                    self._freed.wait()
                else:
                    self._link.await_answer()
                    self._collect()
            taken = {ticket % ANSWER_PLACES for ticket in self._tickets.values()}
            self._ticket += 1
            while self._ticket % ANSWER_PLACES in taken:
                self._ticket += 1
            ticket = self._tickets[seq] = self._ticket
        self._link.emit(frames.ASKED, seq, frames.pack_asked(ticket, verb, store))

    def wait(self, seq: int) -> bool:
        """Block until the question is answered; return whether the document is stored."""
        if self._in_thread:
            return self._wait_in_thread(seq)
        while True:
            with self._lock:
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
        arrived = asyncio.Event()
        if self._is_coming(seq, lambda: loop.call_soon_threadsafe(arrived.set)):
            if not self._waiting and self._reader is None:
                loop.add_reader(self._link.answer_fd, self._wake)
            self._waiting += 1
            try:
                await arrived.wait()
            finally:
                self._sleepers.pop(seq, None)
                self._waiting -= 1
                if not self._waiting and self._reader is None:
                    loop.remove_reader(self._link.answer_fd)
        return self._answers.pop(seq)

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _in_thread(self) -> bool:
        return self._reader is not None and threading.get_ident() != self._reader

    def _wait_in_thread(self, seq: int) -> bool:
        self._link.signal()
        arrived = threading.Event()
        if self._is_coming(seq, arrived.set):
            arrived.wait()
        return self._answers.pop(seq)

    def _is_coming(self, seq: int, wake: Callable[[], object]) -> bool:
        """Whether the answer is yet to come; ``wake`` is then called with it."""
        with self._lock:
            self._collect()
            if seq in self._answers:
                return False
            self._sleepers[seq] = wake
            return True

    def _wake(self) -> None:
        self._link.take_answers()
        with self._lock:
            self._collect()

    def _collect(self) -> None:
        """Read the answers and wake the tasks that wait. Called under the lock."""
        page = self._link.page
        for seq, ticket in list(self._tickets.items()):
            answer = page.answer(ticket)
            if answer is not None:
                del self._tickets[seq]
                self._answers[seq] = answer
                if (wake := self._sleepers.pop(seq, None)) is not None:
                    wake()
                self._freed.notify()
