"""The task ring: carries records from the master to one child.

Two handles share one memory: ``TaskProducer`` in the master, called by ``ring.master_link`` for the dispatcher, and
``TaskConsumer`` in the child, called by ``ring.child_link`` for its loop. Neither handle may block, log or interpret a
record.

Each record is taken by exactly one side, child or master. The child claims a record by reading a token from the ring's
eventfd (in semaphore mode, non-blocking for both sides). The master takes a record back by reading a token itself. The
classes explain why this is correct.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING
from zlib import crc32

from turbo import failpoint
from turbo.ring.layout import (
    CHECKED,
    HEADER,
    MASK32,
    ONE,
    PADDING,
    W_STARTED,
    W_TASK_HEAD,
    W_TASK_TAIL,
    WHOLE,
    RingCorrupt,
    inline_limit,
)

if TYPE_CHECKING:
    import mmap

_PADDING_HIGH = PADDING << 32


class TaskProducer:
    """The master's end of a task ring.

    Why this is correct:

    - *Writers:* only this object writes the ring's bytes and ``W_TASK_TAIL``; only the child writes ``W_TASK_HEAD`` and
      ``W_STARTED``.
    - *Ownership:* the kernel decides it, since each read of the eventfd takes one token atomically. The eventfd's count
      equals the number of committed, unclaimed records, except inside ``commit`` and ``take_back``. The child's tokens
      stand for the oldest records and the master's for the newest, so two tokens never stand for the same record.
    - *Taking back:* the entry leaves the private deque only after the token was read. Resetting the tail to ``start``,
      which is before any padding, removes the padding too. Nothing is ever read back from the shared bytes.
    - *Ordering:* payload and header are stored before the write to the eventfd, which takes the same kernel lock as the
      child's read.
    - *Space:* it is free only up to ``W_TASK_HEAD``, which the child stores after checking its copy, so no record is
      overwritten while it is being copied.
    - *The child killed at any line:* its death leaves either an unread token (the record is unclaimed) or one record
      without a token (it was claimed); ``collect_dead`` counts them.
    - *The master killed:* nothing needs recovery; the broker has every message, and the child dies with its master.
    """

    __slots__ = (
        "_capacity", "_entries", "_epoch", "_head", "_mapping", "_mask", "_page", "_released_end", "_staged",
        "_tail", "_token_fd", "_words",
    )  # fmt: skip

    def __init__(self, mapping: mmap.mmap, page: memoryview[int], token_fd: int, epoch: int, origin: int = 0) -> None:
        self._mapping = mapping
        self._words: memoryview[int] = memoryview(mapping).cast("Q")
        self._page = page
        self._token_fd = token_fd
        self._epoch = epoch
        self._capacity = len(mapping)
        self._mask = self._capacity - 1
        self._tail = self._head = self._released_end = origin
        #: (start, end, sequence) of every unreleased record, oldest first. The shared bytes are never read for this.
        self._entries: deque[tuple[int, int, int]] = deque()
        self._staged = 0

    def stage(self, kind: int, seq: int, payload: bytes) -> bool:
        """Write one record without publishing it.

        Return False and write nothing if it does not fit. ``seq`` must grow with every call, also after a take-back.
        Raises RingCorrupt if the child's head is impossible.
        """
        # hot: bench/rings.py
        length = HEADER + len(payload)
        size = (length + 7) & -8
        start = self._tail
        offset = start & self._mask
        room = self._capacity - offset
        # A record never wraps: if it does not fit before the ring's end, it starts at the ring's beginning.
        position = start + room if size > room else start
        end = position + size
        if end - self._head > self._capacity:
            # Full according to the last known head; the child may have moved it since.
            self._read_head()
            if end - self._head > self._capacity:
                return False
        if position != start:
            self._words[offset >> 3] = _PADDING_HIGH | room
            offset = 0
        mapping = self._mapping
        mapping[offset + HEADER : offset + length] = payload
        if failpoint.ENABLED:
            failpoint.hit("ring.task.copied")
        epoch = self._epoch
        crc = crc32(payload, crc32(CHECKED.pack(length, kind, seq, epoch), position & MASK32))
        WHOLE.pack_into(mapping, offset, length, kind, seq, epoch, crc)
        self._entries.append((start, end, seq))
        self._tail = end
        self._staged += 1
        return True

    def unstage(self) -> None:
        """Undo the last ``stage``, which must not have been committed."""
        self._staged -= 1
        self._tail = self._entries.pop()[0]

    def commit(self) -> None:
        """Publish every staged record: add as many tokens."""
        count = self._staged
        if not count:
            return
        self._page[W_TASK_TAIL] = self._tail
        # The tokens come last: the child may read a record as soon as its token is there.
        if failpoint.ENABLED:
            failpoint.hit("ring.task.before_tokens")
        os.write(self._token_fd, ONE if count == 1 else count.to_bytes(8, "little"))
        self._staged = 0
        if failpoint.ENABLED:
            failpoint.hit("ring.task.committed")

    def take_back(self) -> int | None:
        """Take the newest unclaimed record back.

        Return its sequence, or None if there is none.
        """
        if self._staged:
            # It was not published, so it has no token yet.
            self._staged -= 1
        elif not self._take_token():
            return None
        # From here on the record is the master's: the child can get no token for it.
        if not self._entries:
            raise RingCorrupt("a token without a record")
        if failpoint.ENABLED:
            failpoint.hit("ring.task.token_taken_back")
        start, _, seq = self._entries.pop()
        self._tail = start
        self._page[W_TASK_TAIL] = start
        return seq

    def release(self, seq: int) -> None:
        """Drop the records up to ``seq``, whose outcomes have been handled."""
        entries = self._entries
        while entries and entries[0][2] <= seq:
            self._released_end = entries.popleft()[1]

    def unreleased(self) -> int:
        """Return how many records are neither released nor taken back."""
        return len(self._entries)

    def collect_dead(self) -> tuple[list[int], list[int]]:
        """Return a dead child's claimed and unclaimed sequences, oldest first.

        Released records are in neither list. Reading the remaining tokens takes the unclaimed records back. Raises
        RingCorrupt for more tokens than records.
        """
        unclaimed = self._staged
        self._staged = 0
        while self._take_token():
            unclaimed += 1
        sequences = [seq for _, _, seq in self._entries]
        self._entries.clear()
        if unclaimed > len(sequences):
            raise RingCorrupt(f"{unclaimed} tokens for {len(sequences)} records")
        split = len(sequences) - unclaimed
        # The child claimed the oldest records first, so the newest ones are those without a claim.
        return sequences[:split], sequences[split:]

    def close(self) -> None:
        """Release the memory, so that the mapping can be closed."""
        self._words.release()

    def _take_token(self) -> bool:
        try:
            token = os.read(self._token_fd, 8)
        except BlockingIOError:
            return False
        if token != ONE:
            raise RingCorrupt(f"token {token!r}")
        return True

    def _read_head(self) -> None:
        """Read the child's head, checked to be the end of a claimable record."""
        head = self._page[W_TASK_HEAD]
        if head == self._head:
            return
        if not self._head <= head <= self._tail:
            raise RingCorrupt(f"the child's head {head} is outside {self._head}..{self._tail}")
        if head != self._released_end:
            for _, end, _ in self._entries:
                if end >= head:
                    break
            else:
                end = -1
            if end != head:
                raise RingCorrupt(f"the child's head {head} is not the end of a record")
        self._head = head


class TaskConsumer:
    """The child's end of a task ring.

    Why this is correct:

    - *Token first:* nothing after the last claimed record is read before its token, not even padding, because the
      master may take the record back and write another there.
    - *One copy:* the header is copied once, and only the copy is checked and used.
    - *Nothing to claim:* after a claim, a tail word that equals the position says that no record follows, and saves a
      read of the eventfd. The token stays the authority: the next claim reads it whatever the word says, so a stale or
      damaged word delays a record by one poll at most. The master stores the word before it adds tokens.
    - *Space:* ``W_TASK_HEAD`` is stored after the CRC of the copy has been checked; that allows the master to overwrite
      the bytes. ``W_STARTED`` is stored after that and before anything is decoded.
    - *Killed between token and* ``W_STARTED``: one record has no token and is not marked as started.
    - *Killed after* ``W_STARTED``: the record counts as started.

    In both cases it may go to another child, unless ``W_BEGUN`` or ``W_COROUTINE_BEGUN``, which are written before the
    body, names it.
    """

    __slots__ = ("_capacity", "_epoch", "_last", "_longest", "_mapping", "_mask", "_missed", "_page", "_position",
                 "_token_fd", "_words", "alone")  # fmt: skip

    def __init__(self, mapping: mmap.mmap, page: memoryview[int], token_fd: int, epoch: int) -> None:
        self._mapping = mapping
        self._words: memoryview[int] = memoryview(mapping).cast("Q")
        self._page = page
        self._token_fd = token_fd
        self._epoch = epoch
        self._capacity = len(mapping)
        self._mask = self._capacity - 1
        self._longest = HEADER + inline_limit(self._capacity)
        self._position = page[W_TASK_HEAD]
        self._last = 0
        #: Whether the last claim found nothing.
        self._missed = True
        #: Whether the last record was claimed after a miss, with no other behind it.
        self.alone = False

    def claim(self) -> tuple[int, int, bytes] | None:
        """Return the next record as (kind, sequence, payload), or None.

        Raises RingCorrupt if the record fails its checks, OSError if the descriptor is closed.
        """
        # hot: bench/rings.py
        missed = self._missed
        self._missed = True
        if not missed and self._page[W_TASK_TAIL] == self._position:
            return None
        try:
            token = os.read(self._token_fd, 8)
        except BlockingIOError:
            return None
        if failpoint.ENABLED:
            failpoint.hit("ring.task.claimed")
        if token != ONE:
            raise RingCorrupt(f"token {token!r}")
        position = self._position
        offset = position & self._mask
        first = self._words[offset >> 3]
        if first >= _PADDING_HIGH:
            room = self._capacity - offset
            if first & MASK32 != room:
                raise RingCorrupt(f"padding of {first & MASK32} bytes where {room} are left")
            position += room
            offset = 0
        mapping = self._mapping
        if offset + HEADER > self._capacity:
            raise RingCorrupt("a record's header crosses the end of the ring")
        length, kind, seq, epoch, crc = WHOLE.unpack_from(mapping, offset)
        if length < HEADER or length > self._longest or offset + length > self._capacity:
            raise RingCorrupt(f"record of {length} bytes at {position}")
        if epoch != self._epoch or seq <= self._last:
            raise RingCorrupt(f"record {seq} of epoch {epoch} after {self._last} of {self._epoch}")
        payload = mapping[offset + HEADER : offset + length]
        if failpoint.ENABLED:
            failpoint.hit("ring.task.read")
        if crc32(payload, crc32(CHECKED.pack(length, kind, seq, epoch), position & MASK32)) != crc:
            raise RingCorrupt(f"record {seq} at {position} fails its CRC")
        position += (length + 7) & -8
        self._position = position
        self._last = seq
        self._missed = False
        self.alone = missed and self._page[W_TASK_TAIL] == position
        # The copy is good, so the master may overwrite the record's bytes from here on.
        page = self._page
        page[W_TASK_HEAD] = position
        if failpoint.ENABLED:
            failpoint.hit("ring.task.head_stored")
        page[W_STARTED] = seq
        if failpoint.ENABLED:
            failpoint.hit("ring.task.started_stored")
        return kind, seq, payload

    def close(self) -> None:
        """Release the memory, so that the mapping can be closed."""
        self._words.release()
