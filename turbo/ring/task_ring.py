"""The task ring: records from the master to one child, each claimed by exactly one of the two.

What: two handles on one memory, ``TaskProducer`` (master) and ``TaskConsumer`` (child). Place: between the
master's dispatcher and the child's loop. Neither handle may block, log or know what a record means.

A record is the child's once it has read a token for it from the ring's eventfd (semaphore mode, non-blocking
for both sides); the master takes a record back by reading a token itself. See the classes for why it holds.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING
from zlib import crc32

from turbo import failpoint
from turbo.ring.layout import (
    CHECKED,
    CRC,
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

    Why it is right. *Who writes:* the ring's bytes and ``W_TASK_TAIL`` only this object, ``W_TASK_HEAD`` and
    ``W_STARTED`` only the child. *Who has what* is decided by the kernel: the eventfd's count equals the
    unclaimed records whenever the master is outside this class, and is lower while it is in ``stage`` or
    ``take_back``; each read takes one token from it atomically. The child takes tokens oldest record first
    and the master newest first, so as long as a token is left between them they cannot mean the same record.
    A take-back pops the private deque only after it has the token, and undoes the padding too, since
    ``start`` lies before it; nothing is ever read back from the shared bytes. *What orders it:* payload and
    header are stored before the eventfd's write, which passes the same kernel lock as the child's read.
    *Space* is free only up to ``W_TASK_HEAD``, which the child stores after its copy is checked, so a record
    is never overwritten while it is being copied. *Killed at any line:* the child's death leaves either a
    token unread (the record is unclaimed) or one record without token (it was claimed); ``post_mortem``
    counts which. The master's death needs no recovery: the broker has every message, and the child dies with
    its master.
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
        #: (start, end, sequence) of every record not yet released, oldest first: the truth about the ring.
        self._entries: deque[tuple[int, int, int]] = deque()
        self._staged = 0

    def stage(self, kind: int, seq: int, payload: bytes) -> bool:
        """Write one record without publishing it. Return False, with nothing written, when it does not fit.

        ``seq`` must rise with every call, also after a take-back. Raises RingCorrupt if the child's head is
        impossible.
        """
        # hot: bench/rings.py
        length = HEADER + len(payload)
        size = (length + 7) & -8
        start = self._tail
        offset = start & self._mask
        room = self._capacity - offset
        position = start + room if size > room else start
        end = position + size
        if end - self._head > self._capacity:
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
        checked = CHECKED.pack(length, kind, seq, self._epoch)
        crc = crc32(payload, crc32(checked, position & MASK32))
        mapping[offset : offset + HEADER] = checked + CRC.pack(crc)
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
        if failpoint.ENABLED:
            failpoint.hit("ring.task.before_tokens")
        os.write(self._token_fd, ONE if count == 1 else count.to_bytes(8, "little"))
        self._staged = 0
        if failpoint.ENABLED:
            failpoint.hit("ring.task.committed")

    def take_back(self) -> int | None:
        """Make the newest unclaimed record the master's again; return its sequence, None if there is none."""
        if self._staged:
            self._staged -= 1
        elif not self._take_token():
            return None
        if not self._entries:
            raise RingCorrupt("a token without a record")
        if failpoint.ENABLED:
            failpoint.hit("ring.task.token_taken_back")
        start, _, seq = self._entries.pop()
        self._tail = start
        self._page[W_TASK_TAIL] = start
        return seq

    def release(self, seq: int) -> None:
        """Forget the records up to ``seq``: their outcomes have been handled."""
        entries = self._entries
        while entries and entries[0][2] <= seq:
            self._released_end = entries.popleft()[1]

    def unreleased(self) -> int:
        """How many records are neither released nor taken back."""
        return len(self._entries)

    def collect_dead(self) -> tuple[list[int], list[int]]:
        """After the child's death: sequences it had claimed (unreleased), and those it had not, oldest first.

        Reading every token left is itself the claim. Raises RingCorrupt for more tokens than records.
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
        return sequences[:split], sequences[split:]

    def close(self) -> None:
        """Let go of the memory, so that the mapping can be closed."""
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
        """Take over the child's head after checking that it is the end of a record it may have claimed."""
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

    Why it is right. The token is read first; nothing past the last claimed record is looked at before, not
    even padding, because the master may take it back and write something else there. The header is copied
    once and only the copy is checked and used. ``W_TASK_HEAD`` is stored after the CRC has been checked over
    the copy, which is what allows the master to overwrite the bytes; ``W_STARTED`` after that and before
    anything is decoded. *Killed between* token and ``W_STARTED``: one record is missing its token and not named
    as started. *Killed after* it: the record counts as started. Either may go to another child, as long as
    ``W_BEGUN``, which is written before the body, does not name it.
    """

    __slots__ = ("_capacity", "_epoch", "_last", "_longest", "_mapping", "_mask", "_page", "_position",
                 "_token_fd", "_words")  # fmt: skip

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

    def claim(self) -> tuple[int, int, bytes] | None:
        """Return the next record as (kind, sequence, payload), or None when there is none now.

        Raises RingCorrupt when the record fails its checks, OSError when the descriptor is gone.
        """
        # hot: bench/rings.py
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
        header = mapping[offset : offset + HEADER]
        if len(header) != HEADER:
            raise RingCorrupt("a record's header crosses the end of the ring")
        length, kind, seq, epoch, crc = WHOLE.unpack(header)
        if length < HEADER or length > self._longest or offset + length > self._capacity:
            raise RingCorrupt(f"record of {length} bytes at {position}")
        if epoch != self._epoch or seq <= self._last:
            raise RingCorrupt(f"record {seq} of epoch {epoch} after {self._last} of {self._epoch}")
        payload = mapping[offset + HEADER : offset + length]
        if failpoint.ENABLED:
            failpoint.hit("ring.task.read")
        if crc32(payload, crc32(header[:20], position & MASK32)) != crc:
            raise RingCorrupt(f"record {seq} at {position} fails its CRC")
        position += (length + 7) & -8
        self._position = position
        self._last = seq
        page = self._page
        page[W_TASK_HEAD] = position
        if failpoint.ENABLED:
            failpoint.hit("ring.task.head_stored")
        page[W_STARTED] = seq
        if failpoint.ENABLED:
            failpoint.hit("ring.task.started_stored")
        return kind, seq, payload

    def close(self) -> None:
        """Let go of the memory, so that the mapping can be closed."""
        self._words.release()
