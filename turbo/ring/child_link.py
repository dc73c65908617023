"""The child's end of its link: claims records, emits outcomes, waits.

Runs in the child only, one per process. Before it: ``child.loop``, which claims and waits, and ``child.reporting``,
which emits. After it: the rings, the control page and the channel for large bodies. A process that a task forked must
never use it (``detached``). No signal handler may call it or raise inside it: handlers raise only in a task's body.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from turbo import failpoint
from turbo.ring import memory, oversize
from turbo.ring.control_page import ChildPage
from turbo.ring.layout import (
    EXIT_DESCRIPTORS_LOST,
    EXIT_MASTER_GONE,
    EXIT_RING_CORRUPT,
    EXIT_STRAY_FORK,
    MAGIC,
    OVERSIZE,
    OVERSIZE_NOTE,
    PAGE_SIZE,
    W_EPOCH,
    W_LIVE_TICKET,
    W_MAGIC,
    W_OUTCOME_CAPACITY,
    W_TASK_CAPACITY,
    RingCorrupt,
    RingDetached,
    check_capacity,
    inline_limit,
)
from turbo.ring.outcome_ring import OutcomeProducer
from turbo.ring.task_ring import TaskConsumer

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

    #: Ends the process with an exit code and a reason.
    Abort = Callable[[int, str], NoReturn]

#: Milliseconds between two attempts to write to a full outcome ring.
_FULL_PAUSE_MS = 1

#: The links that are not closed: one in a child. Strong references, since a compiled class has no weak ones.
_attached: set[ChildLink] = set()


def leave(code: int, why: str) -> NoReturn:
    """End this process at once with a line on stderr.

    A task's body could catch an exception instead.
    """
    os.write(2, f"turbo child {os.getpid()}: {why}; exiting with {code}\n".encode())
    os._exit(code)


class ChildLink:
    """One child's rings, page and channel, as the child holds them.

    Why this is correct. Only the child's loop thread claims. Any thread of a task may emit, one at a time under a
    process-local lock, which dies with the process and is never taken by a signal handler. In a process forked by a
    task the memory is unmapped (MADV_DONTFORK), the descriptors are closed and ``detached`` is set, so two processes
    cannot act as one child. *Killed at any line:* see the rings. *The master killed or frozen:* every wait here also
    polls the lifeline.
    """

    __slots__ = (
        "_abort", "_answer_fd", "_channel", "_fds", "_inbox", "_inline_limit", "_lifeline_fd",
        "_mappings", "_next_ticket", "_outcomes", "_oversize_lock", "_poll", "_tasks", "_token_fd", "_words",
        "detached", "epoch", "page",
    )  # fmt: skip

    def __init__(self, epoch: int, fds: Sequence[int], lifeline_fd: int, abort: Abort) -> None:
        task_fd, outcome_fd, page_fd, token_fd, event_fd, channel_fd, answer_fd = fds
        memory.check_size(page_fd, PAGE_SIZE)
        page = memory.map_shared(page_fd, PAGE_SIZE, writable=True)
        words: memoryview[int] = memoryview(page).cast("Q")
        if words[W_MAGIC] != MAGIC or words[W_EPOCH] != epoch:
            raise RingCorrupt(f"the control page is not that of epoch {epoch}")
        task_capacity = check_capacity(words[W_TASK_CAPACITY])
        outcome_capacity = check_capacity(words[W_OUTCOME_CAPACITY])
        memory.check_size(task_fd, task_capacity)
        memory.check_size(outcome_fd, outcome_capacity)
        tasks = memory.map_shared(task_fd, task_capacity, writable=False)
        outcomes = memory.map_shared(outcome_fd, outcome_capacity, writable=True)
        self._mappings: tuple[mmap.mmap, ...] = (tasks, outcomes, page)
        for mapping in self._mappings:
            memory.forget_after_fork(mapping)
        self.epoch = epoch
        #: True in a process forked by a task: the rings belong to its parent.
        self.detached = False
        self._abort = abort
        self._words = words
        self._token_fd = token_fd
        self._answer_fd = answer_fd
        self._fds = (token_fd, event_fd, answer_fd)
        for fd in (task_fd, outcome_fd, page_fd):
            os.close(fd)
        self._channel = socket.socket(fileno=channel_fd)
        self._inbox = oversize.Inbox(self._channel, oversize.SEALS_FROM_MASTER)
        self._tasks = TaskConsumer(tasks, words, token_fd, epoch)
        self._outcomes = OutcomeProducer(outcomes, words, event_fd, epoch)
        self._inline_limit = inline_limit(outcome_capacity)
        self._next_ticket = 1
        self._oversize_lock = threading.Lock()
        self._lifeline_fd = lifeline_fd
        self._poll: select.poll | None = None
        self.page = ChildPage(words)
        _attached.add(self)

    @classmethod
    def attach(cls, epoch: int, fds: Sequence[int], *, lifeline_fd: int = -1, abort: Abort = leave) -> ChildLink:
        """Map the rings behind the descriptors of ``MasterLink.child_fds``.

        The link owns the descriptors then. ``lifeline_fd`` is polled wherever the link waits. ``abort(code, why)`` ends
        the process if the rings or descriptors are unusable (tests replace it). Raises RingCorrupt if they are not
        those of ``epoch``.
        """
        return cls(epoch, fds, lifeline_fd, abort)

    def claim(self) -> tuple[int, int, bytes] | None:
        """Return the next record as (kind, sequence, payload); None: none now.

        Any damage ends the process: a body may have closed the descriptors, and no later claim could be trusted.
        """
        if self.detached:  # the ring is not mapped here
            self._abort(EXIT_STRAY_FORK, "a process forked by a task came back into the child's loop")
        try:
            record = self._tasks.claim()
            if record is not None and record[0] >= OVERSIZE:
                kind, seq, note = record
                return kind & ~OVERSIZE, seq, self._inbox.fetch(note)
        except RingCorrupt as error:
            self._abort(EXIT_RING_CORRUPT, str(error))
        except OSError as error:
            self._abort(EXIT_DESCRIPTORS_LOST, f"claiming: {error}")
        return record

    def wait(self, lifeline_fd: int = -1) -> None:
        """Signal emitted outcomes, then sleep until there may be a record.

        It may return without one. ``lifeline_fd`` replaces that of ``attach``. Ends the process if the master is gone.
        """
        if self.detached:
            self._abort(EXIT_STRAY_FORK, "a process forked by a task came back into the child's loop")
        if lifeline_fd >= 0 and lifeline_fd != self._lifeline_fd:
            self._lifeline_fd = lifeline_fd
            self._poll = None
        self._look(None)

    def look(self) -> None:
        """Signal emitted outcomes and handle events, without sleeping, for loops."""
        self._look(0)

    @property
    def wait_fds(self) -> tuple[int, ...]:
        """The descriptors that :meth:`wait` polls, for a loop: tokens, bodies, lifeline."""
        fds = (self._token_fd, self._channel.fileno())
        return fds if self._lifeline_fd < 0 else (*fds, self._lifeline_fd)

    @property
    def answer_fd(self) -> int:
        """The descriptor that is readable when the master has answered."""
        return self._answer_fd

    def take_answers(self) -> None:
        """Clear :attr:`answer_fd`, before the page is read: no answer is missed."""
        try:
            os.eventfd_read(self._answer_fd)
        except BlockingIOError:
            return
        except OSError as error:
            self._abort(EXIT_DESCRIPTORS_LOST, f"waiting for an answer: {error}")

    def await_answer(self) -> None:
        """Signal emitted outcomes, then sleep until the master may have answered.

        Ends the process if the master is gone.
        """
        self.signal()
        poll = select.poll()
        poll.register(self._answer_fd, select.POLLIN)
        if self._lifeline_fd >= 0:
            poll.register(self._lifeline_fd, select.POLLIN)
        ready = [fd for fd, _events in poll.poll()]
        if self._lifeline_fd in ready:
            self._abort(EXIT_MASTER_GONE, "the master is gone")
        self.take_answers()

    def _look(self, timeout_ms: float | None) -> None:
        self.signal()
        poll = self._poll or self._make_poll()
        for fd, events in poll.poll(timeout_ms):
            if fd == self._lifeline_fd:
                self._abort(EXIT_MASTER_GONE, "the master is gone")
            if events & ~select.POLLIN:
                # Only the master holds the channel's other end, so a hang-up there means that it is gone.
                if fd == self._token_fd or events & select.POLLNVAL:
                    self._abort(EXIT_DESCRIPTORS_LOST, "a descriptor of the rings is gone")
                self._abort(EXIT_MASTER_GONE, "the master closed this child's link")
            if fd != self._token_fd:
                # Bodies of records that were taken back would otherwise fill the channel of an idle child.
                try:
                    self._inbox.collect(self._words[W_LIVE_TICKET])
                except RingCorrupt as error:
                    self._abort(EXIT_RING_CORRUPT, str(error))

    def emit(self, kind: int, seq: int, parts: Sequence[bytes]) -> None:
        """Store one outcome record; ``signal`` publishes it.

        Waits for the master while the ring is full. ``kind`` is below 2**31. Raises RingDetached in a process forked by
        a task.
        """
        if self.detached:
            raise RingDetached("this process was forked by a task; its parent owns the outcome ring")
        single = len(parts) == 1
        if (len(parts[0]) if single else sum(map(len, parts))) > self._inline_limit:
            self._emit_oversize(kind, seq, parts)
            return
        payload = parts[0] if single else b"".join(parts)
        try:
            while not self._outcomes.emit(kind, seq, payload):
                self._make_room()
        except RingCorrupt as error:
            # Not raised: a task's body could catch it.
            self._abort(EXIT_RING_CORRUPT, str(error))

    def signal(self) -> None:
        """Notify the master of all records emitted since the last call, with one write."""
        if self._outcomes.unsignalled:
            try:
                self._outcomes.signal()
            except OSError as error:
                self._abort(EXIT_DESCRIPTORS_LOST, f"signalling: {error}")

    def signal_start(self) -> None:
        """Signal emitted outcomes, unless the master looks for this start by itself.

        It does so (``master.outcome.start_looks``) soon after each hand-over. A record that was claimed after a miss,
        alone, starts then. Any other may start long after, and its signal carries the end of the task before.
        """
        if not (self._tasks.alone and self.page.is_looked_at()):
            self.signal()

    def close(self) -> None:
        """Release memory and descriptors. Only for tests: a child leaves through os._exit."""
        _attached.discard(self)
        self._inbox.close()
        self._channel.close()
        self._tasks.close()
        self._outcomes.close()
        self._words.release()
        for mapping in self._mappings:
            mapping.close()
        for fd in self._fds:
            os.close(fd)

    def _emit_oversize(self, kind: int, seq: int, parts: Sequence[bytes]) -> None:
        """Send a body, then emit the record that names it."""
        size = sum(map(len, parts))
        fd = oversize.create(parts, oversize.SEALS_FROM_CHILD)
        # One at a time, so that records name their tickets in the order in which the bodies were sent.
        with self._oversize_lock:
            ticket = self._next_ticket
            self._next_ticket = ticket + 1
            try:
                while not oversize.send(self._channel, ticket, size, fd):
                    self._make_room()
            finally:
                os.close(fd)
            if failpoint.ENABLED:
                failpoint.hit("ring.oversize.sent")
            self.emit(kind | OVERSIZE, seq, (OVERSIZE_NOTE.pack(ticket, size),))

    def _make_room(self) -> None:
        """Wait for the master to drain the ring; end the process if it is gone."""
        # The master drains only signalled records, so signal them first, or the ring would stay full.
        self.signal()
        poll = select.poll()
        if self._lifeline_fd >= 0:
            poll.register(self._lifeline_fd, select.POLLIN)
        if poll.poll(_FULL_PAUSE_MS):
            self._abort(EXIT_MASTER_GONE, "the master is gone")

    def _make_poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._token_fd, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        if self._lifeline_fd >= 0:
            poll.register(self._lifeline_fd, select.POLLIN)
        self._poll = poll
        return poll

    def _detach(self) -> None:
        """Disable this copy of the link, in a process forked by a task."""
        self.detached = True
        self.page.detach()
        for mapping in self._mappings:
            # The address range is not mapped here and may be reused, so the mapping's munmap must never run.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(mapping))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in (*self._fds, self._channel.fileno()):
            # Keep the numbers in use, so that no file of the task gets one that this link would use.
            os.dup2(null, fd, inheritable=False)
        os.close(null)


def _detach_all() -> None:
    try:
        for link in list(_attached):
            link._detach()  # noqa: SLF001 - same module
    except OSError as error:
        sys.stderr.write(f"turbo: cannot disable the rings in a forked process: {error}\n")


os.register_at_fork(after_in_child=_detach_all)
