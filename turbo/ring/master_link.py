"""The master's end of one child incarnation.

What: creates the memory, stages and takes back records, drains outcomes, and reports after a death what the child held.
Place: between the master's dispatcher and the rings; runs in the master only. It must never block or trust what the
child wrote: every error is RingCorrupt, and the answer is to replace the child.
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
    """What a dead child leaves.

    ``outcomes``: records not drained before, oldest first; apply them before judging ``claimed``.
    ``unclaimed``: sequences that the child never claimed, oldest first.
    ``claimed``: the newest sequence that the child had taken and whose outcome was neither released before
    nor, with ``final_kinds``, among ``outcomes``. ``started``: whether it had begun to handle it.
    ``begun``: the last sequence whose body it had entered. ``coroutines_begun``: the same for coroutines.
    ``left``: all such sequences; more than one, once final outcomes are counted, is corruption.
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

    Why it is right. The memory is new for every incarnation and every page of it exists before the child
    does. The task ring is sealed so that only the master's mapping can write it; the outcome ring is mapped
    here for reading only. The order of stores is the rings' own. Sequences rise for ever, also over
    take-backs. The link is used from the master's loop thread alone, so it needs no lock. *The child killed
    at any line:* ``post_mortem``. *The master killed:* nothing here needs saving; the memory goes with its
    last holder.
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
        """Create everything; capacities in bytes, powers of two. ``origin`` is where positions begin (tests).

        ``files`` are shared by all links of a master; a link without has its own.

        Raises RingUnavailable when memory or descriptors are short, ValueError for impossible arguments.
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
        #: sequence -> file of each oversize body not yet released.
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
        """The descriptors that ``ChildLink.attach`` needs, in its order."""
        return self._child_fds

    def close_child_fds(self) -> None:
        """Close those that only the child needs, once they have been sent to it."""
        self._child_channel.close()

    def stage(self, kind: int, parts: Sequence[bytes]) -> int | None:
        """Write a record for the child without publishing it; return its sequence, or None when full.

        ``kind`` is below 2**31. Full may also mean that too many oversize bodies wait unread. Raises
        RingCorrupt, and OSError when an oversize body finds no memory.
        """
        seq = self._next_seq
        size = sum(map(len, parts))
        if size > self._inline_limit:
            return self._stage_oversize(kind, seq, parts, size)
        if not self._tasks.stage(kind, seq, b"".join(parts)):
            return None
        self._next_seq = seq + 1
        return seq

    def commit(self) -> None:
        """Publish all staged records to the child."""
        self._tasks.commit()

    def take_back(self) -> int | None:
        """Make the newest record that the child has not claimed the master's again.

        Returns its sequence, or None when there is nothing to take. Raises RingCorrupt.
        """
        seq = self._tasks.take_back()
        if seq is not None and self._bodies:
            self._drop_body(seq, taken_back=True)
        return seq

    def drain(self) -> list[Record]:
        """Return new outcomes as (kind, sequence, payload), oldest first; empty when there are none.

        Raises RingCorrupt: kill the child, then ``post_mortem``, which returns what came before the damage.
        """
        records = self._outcomes.drain()
        for index, record in enumerate(records):
            if record[0] >= OVERSIZE:
                return self._fetch_bodies(records, index)
        return records

    def release(self, seq: int) -> None:
        """Say that every record up to ``seq`` has had its outcome handled."""
        self._tasks.release(seq)
        if self._bodies:
            for done in [held for held in self._bodies if held <= seq]:
                self._drop_body(done, taken_back=False)

    def answer(self, ticket: int, yes: bool) -> None:
        """Answer a question of the child's, and wake it; nothing once the link is closed."""
        if not self._closed:
            self.page.set_answer(ticket, yes)
            os.eventfd_write(self._answer_fd, 1)

    def unreleased(self) -> int:
        """How many records the child holds: staged, unclaimed, or claimed and not yet released."""
        return self._tasks.unreleased()

    def behind(self) -> int:
        """Bytes of outcomes stored by the child and not yet drained; a hint, not part of the protocol."""
        return self._outcomes.behind()

    def post_mortem(self, final_kinds: Collection[int] = ()) -> PostMortem:
        """Say what the dead child leaves. Call once, only after its pidfd was readable; then ``close``.

        ``final_kinds``: outcome kinds that end a record; with them ``claimed`` excludes records whose end is
        among the last outcomes, and more than one record left over is reported as corruption.
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
            # Not kept: a record of this link may name it for whoever still holds the rings.
            file.close(unread=False)
        self._bodies.clear()
        self._stack.close()

    def _stage_oversize(self, kind: int, seq: int, parts: Sequence[bytes], size: int) -> int | None:
        """Send the body ahead, then stage the note that names it. The sequence is the ticket."""
        note = OVERSIZE_NOTE.pack(seq, size)
        if not self._tasks.stage(kind | OVERSIZE, seq, note):
            return None
        file: BodyFile | None = None
        sent = False
        try:
            file = self._files.fill(parts, size)
            sent = oversize.send(self._channel, seq, size, file.fd)
        finally:
            if not sent:
                self._tasks.unstage()
                if file is not None:
                    self._files.give_back(file, unread=True)
        if not sent:
            return None
        if failpoint.ENABLED:
            failpoint.hit("ring.oversize.sent")
        self._bodies[seq] = file
        self._next_seq = seq + 1
        return seq

    def _drop_body(self, seq: int, *, taken_back: bool) -> None:
        """Return the file of an oversize body: it was read, or its record can no longer be claimed."""
        file = self._bodies.pop(seq, None)
        if file is None:
            return
        self._files.give_back(file, unread=taken_back)
        self._words[W_LIVE_TICKET] = min(self._bodies, default=self._next_seq)

    def _fetch_bodies(self, records: list[Record], first: int) -> list[Record]:
        """Replace notes from index ``first`` on by the bodies they name."""
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
