"""The control page: shared words for the state between records.

They are of the master and the child.

It has a handle for each side and belongs to a link, beside the two rings. The child writes it before and after each
body; the master reads it for time limits, for monitors and after the child's death, and writes answers and signals for
the child. It must never block, and a reader must never take a half-written group of words for a complete one.
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
    W_EVENTS,
    W_HELLO,
    W_LOOKS,
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
    """The task that a child runs.

    Times are CLOCK_MONOTONIC nanoseconds; a deadline of 0 means none.
    """

    seq: int
    in_body: bool
    soft_deadline_ns: int
    hard_deadline_ns: int
    started_ns: int


class MasterPage:
    """The master's view of a child's page.

    Why this is correct. A group of words is not written atomically, and a new sequence read with an old deadline would
    kill the wrong task. So the child stores sequence 0, then the fields, then the sequence. The reader reads the
    sequence, the fields and the sequence again, and discards the result if it is 0 or has changed. Sequences are never
    reused, so if the second read is equal, the fields in between belong to that sequence. *A child killed* in between
    leaves 0: nothing is running, which is true. On weakly ordered machines the caller confirms by a second scan at
    least 1 ms later before it kills.
    """

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def running(self) -> Running | None:
        """Return the task that the child runs.

        None if it runs none or is writing these words.
        """
        words = self._words
        seq = words[W_RUN_SEQ]
        if not seq:
            return None
        in_body, soft, hard = words[W_RUN_IN_BODY], words[W_RUN_SOFT], words[W_RUN_HARD]
        started = words[W_RUN_STARTED]
        if words[W_RUN_SEQ] != seq:
            # The child has changed the group meanwhile, so the fields may be a mixture.
            return None
        return Running(seq, bool(in_body), soft, hard, started)

    def running_seq(self) -> int:
        """Return only the running sequence, 0 for none; read it again right before a kill."""
        return self._words[W_RUN_SEQ]

    def started(self) -> int:
        """Return the last sequence that the child began to handle; 0 for none yet."""
        return self._words[W_STARTED]

    def entered(self) -> tuple[int, int]:
        """Return the last sequences whose function and whose coroutine was entered.

        0 for none yet. Coroutines are entered in the order of their sequences.
        """
        return self._words[W_BEGUN], self._words[W_COROUTINE_BEGUN]

    def hello(self) -> int:
        """Return the child's pid once it is initialised; 0 before."""
        return self._words[W_HELLO]

    def set_soft(self, seq: int) -> None:
        """Set the sequence whose soft limit has passed; the caller then sends SIGUSR1."""
        self._words[W_SOFT_NAMED] = seq

    def condemn(self, yes: bool) -> None:
        """Set whether the child ends on TERM, INT, HUP or QUIT, else ignored."""
        self._words[W_CONDEMNED] = yes

    def add_stopped(self, lost_ns: int) -> None:
        """Add ``lost_ns`` nanoseconds during which the whole worker did not run."""
        self._words[W_STOPPED] += lost_ns

    def set_events(self, on: bool) -> None:
        """Set whether the child adds to its outcomes what task events need."""
        self._words[W_EVENTS] = on

    def set_looks(self, on: bool) -> None:
        """Set whether the master looks for outcomes after each hand-over.

        Then a start needs no signal.
        """
        self._words[W_LOOKS] = on

    def set_answer(self, ticket: int, yes: bool) -> None:
        """Store the answer to the question with this ticket.

        The caller then writes the answers' eventfd. The kernel lock of that write orders both for the child, which
        reads the eventfd before this word.
        """
        self._words[W_ANSWERS + ticket % ANSWER_PLACES] = ticket << 1 | yes


class ChildPage:
    """The child's view of its page. ``MasterPage`` explains the order of stores."""

    __slots__ = ("_unlimited", "_words", "detached")

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words
        #: Whether both deadlines on the page are 0, as the last body without limits left them.
        self._unlimited = False
        #: Whether this copy is in a process that a task forked.
        self.detached = False

    def hello(self, pid: int) -> None:
        """Report that this child is initialised and can take records."""
        self._words[W_HELLO] = pid

    def enter_body(self, seq: int, soft_ns: int = 0, hard_ns: int = 0, started_ns: int = 0) -> None:
        """Publish the sequence and the deadlines of a body that is about to start.

        Deadlines are CLOCK_MONOTONIC nanoseconds, 0 for none. ``started_ns`` 0 means now.
        """
        words = self._words
        # 0 marks the group as incomplete until the sequence is stored.
        words[W_RUN_SEQ] = 0
        words[W_RUN_IN_BODY] = 1
        if soft_ns or hard_ns or not self._unlimited:
            # Only this object writes them. A store takes as long as a call, and few tasks have limits.
            words[W_RUN_SOFT] = soft_ns
            words[W_RUN_HARD] = hard_ns
            self._unlimited = not (soft_ns or hard_ns)
        words[W_RUN_STARTED] = started_ns or time.monotonic_ns()
        words[W_RUN_SEQ] = seq

    def begin_body(self, seq: int) -> None:
        """Record that the next step enters the body.

        From here on the task must not run elsewhere.
        """
        self._words[W_BEGUN] = seq

    def begin_coroutine(self, seq: int) -> None:
        """Record that the next step enters the body of a task that runs beside others.

        Functions may start while it runs. Later tasks may have begun already, so the word only rises.
        """
        if seq > self._words[W_COROUTINE_BEGUN]:
            self._words[W_COROUTINE_BEGUN] = seq

    def end_body(self, seq: int, *, beside: bool) -> None:
        """Record that the body, or a handler before it, raised: no second run.

        Its outcome is being reported and must be reported only once. ``beside``: the task runs beside others.
        """
        if beside:
            self.begin_coroutine(seq)
        else:
            self.begin_body(seq)
            self.leave_body()

    def leave_body(self) -> None:
        """Record the end of the body and its soft limit.

        The hard limit applies until ``finished``.
        """
        self._words[W_RUN_IN_BODY] = 0

    def finished(self) -> None:
        """Record that the outcome is in the ring: nothing runs, and no limit applies."""
        self._words[W_RUN_SEQ] = 0

    def soft_named(self) -> int:
        """Return the sequence whose soft limit the master signals.

        Called by the signal handler.
        """
        return self._words[W_SOFT_NAMED]

    def condemned(self) -> bool:
        """Whether a group signal is meant to end this child.

        Called by the signal handlers.
        """
        return bool(self._words[W_CONDEMNED])

    def stopped_ns(self) -> int:
        """Return for how many nanoseconds of this child's life no worker ran."""
        return self._words[W_STOPPED]

    def sends_events(self) -> bool:
        """Return whether the master sends task events."""
        return self._words[W_EVENTS] != 0

    def is_looked_at(self) -> bool:
        """Return whether the master looks for outcomes after each hand-over."""
        return self._words[W_LOOKS] != 0

    def answer(self, ticket: int) -> bool | None:
        """Return the answer to the question with this ticket; None while there is none.

        Tickets are never reused, so an older answer in the same place cannot be taken for this one.
        """
        word = self._words[W_ANSWERS + ticket % ANSWER_PLACES]
        return bool(word & 1) if word >> 1 == ticket else None

    def detach(self) -> None:
        """Write to private memory from now on: this process was forked by a task."""
        self.detached = True
        self._words = memoryview(bytearray(PAGE_SIZE)).cast("Q")
