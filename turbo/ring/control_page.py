"""The control page: the few words by which master and child see each other between records.

What: a handle for each side. Place: beside the two rings; the master's scan for time limits reads it, the
child's loop writes it round each body. It must never block, and a half-made change must never be seen as one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from turbo.ring.layout import (
    ANSWER_PLACES,
    PAGE_SIZE,
    W_ANSWERS,
    W_BEGUN,
    W_CONDEMNED,
    W_COROUTINE_BEGUN,
    W_HELLO,
    W_RUN_HARD,
    W_RUN_IN_BODY,
    W_RUN_SEQ,
    W_RUN_SOFT,
    W_RUN_STARTED,
    W_SOFT_NAMED,
    W_STARTED,
    W_STOPPED,
)


@dataclass(frozen=True, slots=True)
class Running:
    """What a child is doing. Times are CLOCK_MONOTONIC nanoseconds; a deadline of 0 means none."""

    seq: int
    in_body: bool
    soft_deadline_ns: int
    hard_deadline_ns: int
    started_ns: int


class MasterPage:
    """The master's view of a child's page.

    Why it is right. Words that belong together would tear as a group: a new sequence seen with an old
    deadline kills the wrong task. The child therefore stores sequence 0, then the fields, then the sequence;
    the reader takes the sequence, the fields and the sequence again and discards 0 or a change. Sequences
    never return, so an equal second read means that the fields between are that sequence's. *A child killed*
    half way leaves 0: nothing is running, which is true of the dead. On weakly ordered machines the caller
    confirms by a second scan at least 1 ms later before it kills.
    """

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def running(self) -> Running | None:
        """Return what the child runs, or None when it runs nothing or is just changing."""
        words = self._words
        seq = words[W_RUN_SEQ]
        if not seq:
            return None
        in_body, soft, hard = words[W_RUN_IN_BODY], words[W_RUN_SOFT], words[W_RUN_HARD]
        started = words[W_RUN_STARTED]
        if words[W_RUN_SEQ] != seq:
            return None
        return Running(seq, bool(in_body), soft, hard, started)

    def running_seq(self) -> int:
        """Return the running sequence alone, 0 for none: to be read again before a kill."""
        return self._words[W_RUN_SEQ]

    def started(self) -> int:
        """Return the last sequence that the child began to handle, 0 for none yet."""
        return self._words[W_STARTED]

    def entered(self) -> tuple[int, int]:
        """Return the last sequence whose body was entered and the last whose coroutine was; 0 for none yet.

        Coroutines are entered in the order of their sequences.
        """
        return self._words[W_BEGUN], self._words[W_COROUTINE_BEGUN]

    def hello(self) -> int:
        """Return the child's pid once it is initialised, 0 before."""
        return self._words[W_HELLO]

    def set_soft(self, seq: int) -> None:
        """Name the sequence whose soft limit has passed; then send SIGUSR1."""
        self._words[W_SOFT_NAMED] = seq

    def condemn(self, yes: bool) -> None:
        """Set whether the child ends on the next TERM, INT, HUP or QUIT, which it otherwise ignores."""
        self._words[W_CONDEMNED] = yes

    def add_stopped(self, lost_ns: int) -> None:
        """Add ``lost_ns`` nanoseconds during which the whole worker did not run."""
        self._words[W_STOPPED] += lost_ns

    def set_answer(self, ticket: int, yes: bool) -> None:
        """Answer the question with this ticket; the caller then writes the eventfd of the answers.

        That write's kernel lock orders the two for the child, which reads the eventfd before it looks here.
        """
        self._words[W_ANSWERS + ticket % ANSWER_PLACES] = ticket << 1 | yes


class ChildPage:
    """The child's view of its page. See MasterPage for the order of stores."""

    __slots__ = ("_words", "detached")

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words
        #: This copy is in a process that a task forked.
        self.detached = False

    def hello(self, pid: int) -> None:
        """Report that this child is initialised and can take records."""
        self._words[W_HELLO] = pid

    def enter_body(self, seq: int, soft_ns: int = 0, hard_ns: int = 0, started_ns: int = 0) -> None:
        """Announce a body: its sequence and absolute CLOCK_MONOTONIC deadlines in ns, 0 for none.

        ``started_ns`` 0 means now.
        """
        words = self._words
        words[W_RUN_SEQ] = 0
        words[W_RUN_IN_BODY] = 1
        words[W_RUN_SOFT] = soft_ns
        words[W_RUN_HARD] = hard_ns
        words[W_RUN_STARTED] = started_ns or time.monotonic_ns()
        words[W_RUN_SEQ] = seq

    def begin_body(self, seq: int) -> None:
        """Record that the next step enters the body: from here on the record must not run elsewhere."""
        self._words[W_BEGUN] = seq

    def begin_coroutine(self, seq: int) -> None:
        """Record that the next step enters a coroutine's body; functions may begin meanwhile."""
        self._words[W_COROUTINE_BEGUN] = seq

    def end_body(self, seq: int, *, coroutine: bool) -> None:
        """Record that the body, or a handler before it, raised; its end is being reported, and must be only once."""
        if coroutine:
            self.begin_coroutine(seq)
        else:
            self.begin_body(seq)
            self.leave_body()

    def leave_body(self) -> None:
        """Record the end of the body: no soft limit applies any more. The hard limit stays until ``finished``."""
        self._words[W_RUN_IN_BODY] = 0

    def finished(self) -> None:
        """Record that the outcome is in its ring: nothing runs, no limit applies."""
        self._words[W_RUN_SEQ] = 0

    def soft_named(self) -> int:
        """Return the sequence that the master named for its soft limit; called by the signal handler."""
        return self._words[W_SOFT_NAMED]

    def condemned(self) -> bool:
        """Whether the master means this child by a group signal; called by the signal handlers."""
        return bool(self._words[W_CONDEMNED])

    def stopped_ns(self) -> int:
        """Return the nanoseconds of this child's life during which the whole worker did not run."""
        return self._words[W_STOPPED]

    def answer(self, ticket: int) -> bool | None:
        """Return the answer to the question with this ticket, None while there is none.

        Tickets are never reused, so an earlier answer in the same place is never mistaken for it.
        """
        word = self._words[W_ANSWERS + ticket % ANSWER_PLACES]
        return bool(word & 1) if word >> 1 == ticket else None

    def detach(self) -> None:
        """Write to private memory from now on: this copy is in a process that a task forked."""
        self.detached = True
        self._words = memoryview(bytearray(PAGE_SIZE)).cast("Q")
