"""The master's end of the link to one child process.

It creates the memory, stages records and takes them back, drains outcomes, and reports after the child's death what the
child held. It is between the master's dispatcher and the rings, and runs in the master only. It must never block or
trust what the child wrote: every violation raises RingCorrupt, and the caller replaces the child.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turbo import failpoint
from turbo.ring import memory, oversize
from turbo.ring.body_files import BodyFile, BodyFiles
from turbo.ring.control_page import MasterPage
from turbo.ring.layout import (
    DEFAULT_CAPACITY,
    MAGIC,
    MASK32,
    OVERSIZE,
    OVERSIZE_NOTE,
    PAGE_SIZE,
    W_EPOCH,
    W_LIVE_TICKET,
    W_MAGIC,
    W_OUTCOME_CAPACITY,
    W_OUTCOME_HEAD,
    W_OUTCOME_TAIL,
    W_TASK_CAPACITY,
    W_TASK_HEAD,
    W_TASK_TAIL,
    RingCorrupt,
    RingUnavailable,
    check_capacity,
    inline_limit,
)
from turbo.ring.outcome_ring import OutcomeConsumer, Record
from turbo.ring.task_ring import TaskProducer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True)
class PostMortem:
    """What a dead child held.

    ``outcomes``: records not drained before, oldest first; apply them before deciding about ``claimed``.
    ``unclaimed``: sequences that the child never claimed, oldest first.
    ``claimed``: the newest sequence that the child had claimed and whose outcome was neither released before
    nor, with ``final_kinds``, is among ``outcomes``. ``started``: whether the child had begun to handle it.
    ``begun``: the last sequence whose body was entered. ``coroutines_begun``: the same for coroutines.
    ``left``: all sequences like ``claimed``; more than one, once final outcomes are counted, is corruption.
    ``corrupt``: why the rings cannot be trusted, or None.
    """

    outcomes: list[Record]
    unclaimed: list[int]
    claimed: int | None
    started: bool
    begun: int
    coroutines_begun: int
    left: tuple[int, ...]
    corrupt: str | None


class MasterLink:
    """One child's rings, page and channel, as the master holds them.

    Why this is correct. Every child process gets new memory, and all its pages are allocated before the child exists.
    The task ring is sealed so that only the master's mapping can write it; the outcome ring is mapped read-only here.
    The rings define the order of stores. Sequences only grow, also after take-backs. Only the master's loop thread uses
    the link, so it needs no lock. *The child killed at any line:* see ``post_mortem``. *The master killed:* nothing
    needs recovery; the memory vanishes with its last holder.
    """

    __slots__ = (
        "_answer_fd", "_bodies", "_channel", "_child_channel", "_child_fds", "_closed", "_files", "_inbox",
        "_inline_limit", "_mappings", "_next_seq", "_outcomes", "_stack", "_task_fds", "_tasks", "_words", "epoch",
        "outcome_fd", "page",
    )  # fmt: skip

    def __init__(
        self,
        epoch: int,
        *,
        task_capacity: int = DEFAULT_CAPACITY,
        outcome_capacity: int = DEFAULT_CAPACITY,
        origin: int = 0,
        files: BodyFiles | None = None,
    ) -> None:
        """Create the memory and descriptors; capacities are in bytes and powers of two.

        ``origin`` is the first position, for tests. ``files`` are shared by all links of a master; without them the
        link has its own. Raises RingUnavailable without memory or descriptors, ValueError for impossible arguments.
        """
        check_capacity(task_capacity)
        check_capacity(outcome_capacity)
        if not 0 <= epoch <= MASK32 or origin & 7:
            raise ValueError(f"epoch {epoch} or origin {origin} is out of range")
        self.epoch = epoch
        self._closed = False
        self._next_seq = 1
        self._inline_limit = inline_limit(task_capacity)
        self._files = files or BodyFiles()
        #: sequence -> file of each oversize body that is not released.
        self._bodies: dict[int, BodyFile] = {}
        with contextlib.ExitStack() as stack:
            if files is None:
                stack.callback(self._files.close)
            self._build(stack, epoch, task_capacity, outcome_capacity, origin)
            self._stack = stack.pop_all()

    def _build(
        self, stack: contextlib.ExitStack, epoch: int, task_capacity: int, outcome_capacity: int, origin: int
    ) -> None:
        def own_fd(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        task_fd = memory.create("turbo-tasks", task_capacity)
        child_side = contextlib.ExitStack()
        stack.push(child_side)
        child_side.callback(os.close, task_fd)
        outcome_fd = memory.create("turbo-outcomes", outcome_capacity)
        child_side.callback(os.close, outcome_fd)
        page_fd = memory.create("turbo-page", PAGE_SIZE)
        child_side.callback(os.close, page_fd)
        tasks = stack.enter_context(memory.map_shared(task_fd, task_capacity, writable=True))
        memory.refuse_new_writers(task_fd)
        outcomes = stack.enter_context(memory.map_shared(outcome_fd, outcome_capacity, writable=False))
        page = stack.enter_context(memory.map_shared(page_fd, PAGE_SIZE, writable=True))
        try:
            flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
            token_fd = own_fd(os.eventfd(0, flags | os.EFD_SEMAPHORE))
            self.outcome_fd = own_fd(os.eventfd(0, flags))
            self._answer_fd = own_fd(os.eventfd(0, flags))
            ours, theirs = oversize.make_pair()
        except OSError as error:
            raise RingUnavailable(f"no descriptors for a child's rings: {error}") from error
        stack.enter_context(ours)
        child_side.enter_context(theirs)
        words: memoryview[int] = memoryview(page).cast("Q")
        stack.callback(words.release)
        for word, value in (
            (W_EPOCH, epoch), (W_TASK_CAPACITY, task_capacity), (W_OUTCOME_CAPACITY, outcome_capacity),
            (W_TASK_TAIL, origin), (W_TASK_HEAD, origin), (W_OUTCOME_TAIL, origin), (W_OUTCOME_HEAD, origin),
            (W_LIVE_TICKET, 1), (W_MAGIC, MAGIC),
        ):  # fmt: skip
            words[word] = value
        self._words = words
        self._child_channel = child_side
        self._child_fds = (task_fd, outcome_fd, page_fd, token_fd, self.outcome_fd, theirs.fileno(), self._answer_fd)
        self._channel = ours
        self._inbox = oversize.Inbox(ours, oversize.SEALS_FROM_CHILD)
        stack.callback(self._inbox.close)
        self._tasks = TaskProducer(tasks, words, token_fd, epoch, origin)
        stack.callback(self._tasks.close)
        self._outcomes = OutcomeConsumer(outcomes, words, self.outcome_fd, epoch, origin)
        stack.callback(self._outcomes.close)
        self.page = MasterPage(words)

    def child_fds(self) -> tuple[int, ...]:
        """Return the descriptors that ``ChildLink.attach`` needs, in its order."""
        return self._child_fds

    def close_child_fds(self) -> None:
        """Close the descriptors that only the child needs, once they were sent to it."""
        self._child_channel.close()

    def stage(self, kind: int, parts: Sequence[bytes], span: int = 1) -> int | None:
        """Write a record unpublished; return its first sequence, or None if full.

        ``kind`` is below 2**31. The record takes ``span`` sequences, of which its own is the first. The link is also
        full if too many oversize bodies are unread. Raises RingCorrupt, and OSError if there is no memory for an
        oversize body.
        """
        seq = self._next_seq
        # A large body, which is the last part, is not copied.
        payload = None if parts and len(parts[-1]) > self._inline_limit else b"".join(parts)
        if payload is None or len(payload) > self._inline_limit:
            return self._stage_oversize(kind, seq, parts, sum(map(len, parts)), span)
        if not self._tasks.stage(kind, seq, payload):
            return None
        self._next_seq = seq + span
        return seq

    def commit(self) -> None:
        """Publish all staged records to the child."""
        self._tasks.commit()

    def take_back(self) -> int | None:
        """Take the newest unclaimed record back, if any. Raises RingCorrupt."""
        seq = self._tasks.take_back()
        if seq is not None and self._bodies:
            self._drop_body(seq, taken_back=True)
        return seq

    def drain(self) -> list[Record]:
        """Return new outcomes as (kind, sequence, payload), oldest first.

        Raises RingCorrupt; the records before the damage are then in ``post_mortem``.
        """
        return self._with_bodies(self._outcomes.drain())

    def drain_early(self) -> list[Record]:
        """Return outcomes that are not signalled yet. Raises RingCorrupt."""
        return self._with_bodies(self._outcomes.drain_early())

    def _with_bodies(self, records: list[Record]) -> list[Record]:
        return self._fetch_bodies(records, 0) if records and self._outcomes.kinds >= OVERSIZE else records

    def release(self, seq: int) -> None:
        """Record that the outcomes of all records up to ``seq`` have been handled."""
        self._tasks.release(seq)
        for done in [held for held in self._bodies if held <= seq]:
            self._drop_body(done, taken_back=False)

    def answer(self, ticket: int, yes: bool) -> None:
        """Answer a question of the child and wake it; do nothing once the link is closed."""
        if not self._closed:
            self.page.set_answer(ticket, yes)
            os.eventfd_write(self._answer_fd, 1)

    def unreleased(self) -> int:
        """Return how many records the child holds that are not released."""
        return self._tasks.unreleased()

    def behind(self) -> int:
        """Return the bytes of undrained outcomes; a hint, not part of the protocol."""
        return self._outcomes.behind()

    def post_mortem(self, final_kinds: Collection[int] = ()) -> PostMortem:
        """Return what the dead child held. Call it once, then ``close``.

        Its pidfd has become readable before. ``final_kinds`` are the outcome kinds that end a record. With them,
        ``claimed`` excludes records whose end is among the last outcomes, and more than one remaining is corruption.
        """
        corrupt: str | None = None
        records: list[Record] = []
        try:
            records = self._fetch_bodies(self._outcomes.drain_dead(), 0)
        except RingCorrupt as error:
            corrupt = str(error)
        records = self._outcomes.salvaged + records
        for kind, seq, _ in records:
            if kind in final_kinds:
                self.release(seq)
        left: list[int] = []
        unclaimed: list[int] = []
        try:
            left, unclaimed = self._tasks.collect_dead()
        except RingCorrupt as error:
            corrupt = corrupt or str(error)
        if final_kinds and len(left) > 1:
            corrupt = corrupt or f"records {left} were claimed and only the last can be without outcome"
        claimed = left[-1] if left else None
        started = claimed is not None and self.page.started() >= claimed
        return PostMortem(records, unclaimed, claimed, started, *self.page.entered(), tuple(left), corrupt)

    def close(self) -> None:
        """Release everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for file in self._bodies.values():
            # Not reused: a grandchild that still holds the rings may read a record that names it.
            file.close(unread=False)
        self._bodies.clear()
        self._stack.close()

    def _stage_oversize(self, kind: int, seq: int, parts: Sequence[bytes], size: int, span: int) -> int | None:
        """Send the body and stage the record that names it; the sequence is the ticket."""
        # Staged first, since that is easy to undo; published by ``commit``, after the body was sent.
        note = OVERSIZE_NOTE.pack(seq, size)
        if not self._tasks.stage(kind | OVERSIZE, seq, note):
            return None
        file: BodyFile | None = None
        try:
            file = self._files.fill(parts, size)
            sent = oversize.send(self._channel, seq, size, file.fd)
        except BaseException:
            _unstage(self._tasks, self._files, file)
            raise
        if not sent:
            _unstage(self._tasks, self._files, file)
            return None
        if failpoint.ENABLED:
            failpoint.hit("ring.oversize.sent")
        self._bodies[seq] = file
        self._next_seq = seq + span
        return seq

    def _drop_body(self, seq: int, *, taken_back: bool) -> None:
        """Make an oversize body's file reusable: no one can read it any more."""
        file = self._bodies.pop(seq, None)
        if file is None:
            return
        self._files.give_back(file, unread=taken_back)
        self._words[W_LIVE_TICKET] = min(self._bodies, default=self._next_seq)

    def _fetch_bodies(self, records: list[Record], first: int) -> list[Record]:
        """Replace the notes from index ``first`` on by the bodies that they name."""
        for index in range(first, len(records)):
            kind, seq, payload = records[index]
            if kind < OVERSIZE:
                continue
            try:
                records[index] = (kind & ~OVERSIZE, seq, self._inbox.fetch(payload))
            except RingCorrupt as error:
                self._outcomes.corrupt = str(error)
                self._outcomes.salvaged += records[:index]
                raise
        return records


def _unstage(tasks: TaskProducer, files: BodyFiles, file: BodyFile | None) -> None:
    """Undo the staging of a record whose body was not sent."""
    tasks.unstage()
    if file is not None:
        files.give_back(file, unread=True)
