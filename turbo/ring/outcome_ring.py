"""The outcome ring: carries records from a child to the master, counted.

Two handles share one memory: ``OutcomeProducer`` in the child, called by ``ring.child_link``, and ``OutcomeConsumer``
in the master, called by ``ring.master_link`` for ``master.outcome.outcomes``. Neither handle may block, log or
interpret a record; the link waits for room.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from zlib import crc32

from turbo import failpoint
from turbo.ring.layout import (
    CHECKED,
    HEADER,
    MASK32,
    ONE,
    PADDING,
    W_OUTCOME_HEAD,
    W_OUTCOME_TAIL,
    WHOLE,
    RingCorrupt,
    inline_limit,
)

if TYPE_CHECKING:
    import mmap

_PADDING_HIGH = PADDING << 32

#: (kind, sequence, payload)
Record = tuple[int, int, bytes]


class OutcomeProducer:
    """The child's end of an outcome ring.

    Why this is correct:

    - *Writers:* only the child writes the ring's bytes and ``W_OUTCOME_TAIL``; only the master writes
      ``W_OUTCOME_HEAD``.
    - *Ordering:* a record exists once the tail is stored, with a single store after all its bytes. The eventfd then
      gets exactly the number of new records; there is no sleeping flag whose store and load could be reordered.
    - *Space:* nothing is overwritten, since ``W_OUTCOME_HEAD`` moves only past records that the master has copied.
    - *Threads of a task* write one at a time under a lock of this process, which dies with it; no signal handler takes
      it, and none may raise while it is held.
    - *Killed before the tail is stored:* the record does not exist.
    - *Killed between tail and eventfd:* the master drains up to the tail once the pidfd shows that the child is gone.
    """

    __slots__ = ("_capacity", "_epoch", "_event_fd", "_head", "_lock", "_mapping", "_mask", "_page", "_tail",
                 "_words", "unsignalled")  # fmt: skip

    def __init__(self, mapping: mmap.mmap, page: memoryview[int], event_fd: int, epoch: int) -> None:
        self._lock = threading.Lock()
        self._mapping = mapping
        self._words: memoryview[int] = memoryview(mapping).cast("Q")
        self._page = page
        self._event_fd = event_fd
        self._epoch = epoch
        self._capacity = len(mapping)
        self._mask = self._capacity - 1
        self._tail = page[W_OUTCOME_TAIL]
        self._head = page[W_OUTCOME_HEAD]
        #: Number of stored records that were not added to the eventfd yet.
        self.unsignalled = 0

    def emit(self, kind: int, seq: int, payload: bytes) -> bool:
        """Store one record without signalling it.

        Returns False, and writes nothing, if it does not fit.
        """
        # hot: bench/rings.py
        length = HEADER + len(payload)
        size = (length + 7) & -8
        lock = self._lock
        # ``with`` would cost 50 ns more here, twice a task.
        lock.acquire()
        try:
            position = self._tail
            offset = position & self._mask
            room = self._capacity - offset
            padded = size > room
            if padded:
                position += room
            end = position + size
            if end - self._head > self._capacity:
                self._read_head()
                if end - self._head > self._capacity:
                    return False
            if padded:
                self._words[offset >> 3] = _PADDING_HIGH | room
                offset = 0
            mapping = self._mapping
            mapping[offset + HEADER : offset + length] = payload
            if failpoint.ENABLED:
                failpoint.hit("ring.outcome.copied")
            epoch = self._epoch
            crc = crc32(payload, crc32(CHECKED.pack(length, kind, seq, epoch), position & MASK32))
            WHOLE.pack_into(mapping, offset, length, kind, seq, epoch, crc)
            if failpoint.ENABLED:
                failpoint.hit("ring.outcome.before_tail")
            # This store makes the record exist, so it comes after all its bytes.
            self._page[W_OUTCOME_TAIL] = end
            self._tail = end
            self.unsignalled += 1
        finally:
            lock.release()
        if failpoint.ENABLED:
            failpoint.hit("ring.outcome.tail_stored")
        return True

    def signal(self) -> None:
        """Add the number of records emitted since the last signal to the eventfd.

        Do nothing without any.
        """
        lock = self._lock
        lock.acquire()
        try:
            count = self.unsignalled
            if count:
                os.write(self._event_fd, ONE if count == 1 else count.to_bytes(8, "little"))
                self.unsignalled = 0
        finally:
            lock.release()
        if failpoint.ENABLED:
            failpoint.hit("ring.outcome.signalled")

    def close(self) -> None:
        """Release the memory, so that the mapping can be closed."""
        self._words.release()

    def _read_head(self) -> None:
        head = self._page[W_OUTCOME_HEAD]
        if not self._head <= head <= self._tail:
            raise RingCorrupt(f"the master's head {head} is outside {self._head}..{self._tail}")
        self._head = head


class OutcomeConsumer:
    """The master's end of an outcome ring.

    Why this is correct:

    - *Count:* one read of the eventfd returns and clears the count of complete records. Exactly that many are consumed,
      less those that :meth:`drain_early` has consumed already. ``W_OUTCOME_TAIL`` is read after the count and only
      limits the walk: a record beyond it is corruption.
    - *Early:* nothing orders the bytes of a record that is not signalled, so on a weakly ordered machine some may be
      missing although the tail covers them. The CRC covers the position and tells: such a record is left for the next
      look or for its signal.
    - *Ordering:* the kernel's lock around the count orders the bytes of the records, on ARM too.
    - *One copy:* headers are copied once, and the copy is checked as if the child were hostile; the mapping is
      read-only.
    - *Space:* ``W_OUTCOME_HEAD`` is stored once per batch, after the last copy.
    - *A corrupt record* raises RingCorrupt. The records before it in the batch go to ``salvaged`` for the post-mortem,
      since they were complete.
    - *The child killed at any line:* see the producer; ``drain_dead`` walks to the tail word.
    """

    __slots__ = ("_capacity", "_early", "_epoch", "_event_fd", "_longest", "_mapping", "_mask", "_page", "_position",
                 "_words", "corrupt", "kinds", "salvaged")  # fmt: skip

    def __init__(self, mapping: mmap.mmap, page: memoryview[int], event_fd: int, epoch: int, origin: int = 0) -> None:
        self._mapping = mapping
        self._words: memoryview[int] = memoryview(mapping).cast("Q")
        self._page = page
        self._event_fd = event_fd
        self._epoch = epoch
        self._capacity = len(mapping)
        self._mask = self._capacity - 1
        self._longest = HEADER + inline_limit(self._capacity)
        self._position = origin
        #: Number of records consumed by :meth:`drain_early` that no signal has counted yet.
        self._early = 0
        #: Why this ring must not be read any more; None while it is intact.
        self.corrupt: str | None = None
        self.salvaged: list[Record] = []
        #: All bits of the kinds of the records that were read last.
        self.kinds = 0

    def drain(self) -> list[Record]:
        """Return the records signalled since the last call, oldest first.

        Raises RingCorrupt.
        """
        try:
            count = int.from_bytes(os.read(self._event_fd, 8), "little")
        except BlockingIOError:
            return []
        if self._early:
            known = min(count, self._early)
            self._early -= known
            count -= known
        return self._checked(count)

    def drain_early(self) -> list[Record]:
        """Return the records that are visible and not signalled yet; raise nothing."""
        records: list[Record] = []
        if self.corrupt is None and self._page[W_OUTCOME_TAIL] != self._position:
            self._walk(-1, records)
            self._early += len(records)
        return records

    def drain_dead(self) -> list[Record]:
        """After the child's death: return all remaining records up to the tail word.

        Raises RingCorrupt.
        """
        return self._checked(-1)

    def behind(self) -> int:
        """Return the bytes between the drained records and the child's tail.

        A poll drains only if there are any.
        """
        return self._page[W_OUTCOME_TAIL] - self._position

    def close(self) -> None:
        """Release the memory, so that the mapping can be closed."""
        self._words.release()

    def _checked(self, count: int) -> list[Record]:
        """Return the next ``count`` records. Raises RingCorrupt at a damaged one."""
        if self.corrupt is not None:
            raise RingCorrupt(self.corrupt)
        records: list[Record] = []
        if (damage := self._walk(count, records)) is not None:
            self.corrupt = damage
            self.salvaged += records
            raise RingCorrupt(damage)
        return records

    def _walk(self, count: int, records: list[Record]) -> str | None:
        """Append copies of the next ``count`` records.

        A negative count means all up to the tail word. Returns what is wrong with the first record that fails its
        checks. Records before it are consumed, and the position stays before it, and before any padding in front of it:
        that may be a word of an earlier lap.
        """
        # hot: bench/rings.py
        append = records.append
        unpack, checked = WHOLE.unpack_from, CHECKED.pack
        mapping, words, mask = self._mapping, self._words, self._mask
        capacity, longest, own_epoch = self._capacity, self._longest, self._epoch
        # Behind this offset is no place for a header, only for padding.
        last, kinds = capacity - HEADER, 0
        good = position = self._position
        tail = self._page[W_OUTCOME_TAIL]
        damage: str | None = None
        if tail < position or tail - position > capacity or tail & 7:
            return f"the child's tail {tail} is impossible at {position}"
        while count and (position < tail or count > 0):
            offset = position & mask
            if offset <= last:
                length, kind, seq, epoch, crc = unpack(mapping, offset)
            else:
                first = words[offset >> 3]
                length, kind = first & MASK32, first >> 32
                if kind != PADDING:
                    damage = "a record's header crosses the end of the ring"
                    break
            if kind == PADDING:
                room = capacity - offset
                if length != room:
                    damage = f"padding of {length} bytes where {room} are left"
                    break
                position += room
                offset = 0
                length, kind, seq, epoch, crc = unpack(mapping, 0)
            end = position + ((length + 7) & -8)
            stop = offset + length
            if length < HEADER or length > longest or stop > capacity or end > tail:
                damage = f"record of {length} bytes at {position}, tail {tail}"
                break
            payload = mapping[offset + HEADER : stop]
            if epoch != own_epoch or crc32(payload, crc32(checked(length, kind, seq, epoch), position & MASK32)) != crc:
                damage = f"record {seq} of epoch {epoch} at {position} fails its CRC"
                break
            append((kind, seq, payload))
            kinds |= kind
            good = position = end
            count -= 1
        self.kinds = kinds
        self._position = good
        self._page[W_OUTCOME_HEAD] = good
        return damage
