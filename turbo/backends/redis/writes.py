"""The queue of writes to Redis, from their acceptance until Redis has replied.

Part of ``redis.store`` in the master, which owns the connection, the timers and the log. Pure: it opens nothing, does
not wait and reads no clock. A write is in exactly one of three queues, oldest first: ``_refused`` (to be repeated),
``_sent`` (unanswered, in the order of sending, by which replies are matched) and ``_unsent``. ``recover`` moves all of
them back to ``_unsent`` in order. It must never lose a write, and never write an older document of a task after a newer
one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from turbo.backends.compressed import is_success
from turbo.backends.redis.wire import Fault, classify, lifetime, store_frame, task_key_prefix
from turbo.backends.store import Done, ResultWrite, StoreOutcome, StoreSettings

#: Bytes after which no further document is added to one write to the transport, so that joining stays cheap.
_CHUNK: Final = 256 * 1024

_STORED: Final = StoreOutcome.STORED
_KEPT: Final = StoreOutcome.KEPT


class Pending:
    """One unanswered write."""

    __slots__ = ("done", "frame", "refused_since", "write")

    def __init__(self, write: ResultWrite, frame: bytes, done: Done) -> None:
        self.write = write
        self.frame = frame
        self.done = done
        #: Monotonic time of the first error reply; 0 before one.
        self.refused_since = 0.0


@dataclass(slots=True)
class Answers:
    """A batch of replies: finished writes, and what the store has to do."""

    settled: list[tuple[Done, StoreOutcome]] = field(default_factory=list)
    #: Task id and Redis's error text of each write that is given up.
    given_up: list[tuple[str, str]] = field(default_factory=list)
    #: Redis's error text if a write was refused and will be repeated.
    refusal: str | None = None
    #: Why the connection must be closed.
    reconnect: str | None = None


class WriteQueue:
    """All unanswered writes of one store. Used by one thread only."""

    def __init__(self, settings: StoreSettings) -> None:
        self._prefix = task_key_prefix(settings.global_keyprefix)
        failure = settings.expires if settings.failure_expires is None else settings.failure_expires
        self._lifetimes = lifetime(settings.expires), lifetime(failure)
        self._give_up_after = settings.give_up_after
        self._unsent: deque[Pending] = deque()
        self._sent: deque[Pending] = deque()
        self._refused: deque[Pending] = deque()
        self._refused_ids: set[str] = set()
        #: Bytes of all writes in the queue.
        self.bytes = 0
        #: Set after an error reply: send one write at a time until Redis accepts one.
        self.probing = False

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent) + len(self._refused)

    @property
    def unanswered(self) -> int:
        """Number of writes that were sent and not answered."""
        return len(self._sent)

    @property
    def sendable(self) -> bool:
        """Whether ``take`` would return bytes.

        False while refused writes wait to be repeated.
        """
        return bool(self._unsent) and not self._refused and not (self.probing and self._sent)

    def add(self, write: ResultWrite, done: Done) -> None:
        """Accept a write."""
        frame = self._frame(write, write.guard)
        self._unsent.append(Pending(write, frame, done))
        self.bytes += len(frame)

    def _frame(self, write: ResultWrite, guard: bool) -> bytes:
        key = self._prefix + write.task_id.encode()
        return store_frame(key, write.payload, self._lifetimes[write.failed], guard)

    def take(self) -> bytes:
        """Mark the next writes as sent and return their bytes.

        Empty if there is nothing to send.
        """
        if not self.sendable:
            return b""
        unsent, sent = self._unsent, self._sent
        frames: list[bytes] = []
        size = 0
        while unsent and size < _CHUNK:
            pending = unsent.popleft()
            sent.append(pending)
            frames.append(pending.frame)
            size += len(pending.frame)
            if self.probing:
                break
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def answer(self, replies: list[object], now: float) -> Answers:
        """Match replies to the sent writes in order.

        ``now`` is the monotonic time in seconds.
        """
        answers = Answers()
        for reply in replies:
            if not self._sent:
                answers.reconnect = "a reply without a write"
                break
            pending = self._sent.popleft()
            if reply == 1 or reply == 0:
                self.bytes -= len(pending.frame)
                answers.settled.append((pending.done, _STORED if reply else _KEPT))
                self.probing = False
                if self._refused_ids:
                    self._supersede(pending.write.task_id, answers)
            elif isinstance(reply, bytes):
                self._check_compressed(pending, reply, answers)
            else:
                self._refuse(pending, str(reply), now, answers)
        return answers

    def _settle(self, pending: Pending, outcome: StoreOutcome, answers: Answers) -> None:
        self.bytes -= len(pending.frame)
        answers.settled.append((pending.done, outcome))

    def _supersede(self, task_id: str, answers: Answers) -> None:
        """Drop refused older documents of a task after a newer one was stored."""
        if task_id not in self._refused_ids:
            return
        self._refused_ids.discard(task_id)
        for pending in [each for each in self._refused if each.write.task_id == task_id]:
            self._refused.remove(pending)
            self._settle(pending, StoreOutcome.KEPT, answers)

    def _check_compressed(self, pending: Pending, stored: bytes, answers: Answers) -> None:
        """Decide a guarded write over a compressed document.

        The script found it and cannot read it. A stored SUCCESS is kept; otherwise the write is repeated without the
        guard.
        """
        if is_success(stored):
            self._settle(pending, StoreOutcome.KEPT, answers)
            return
        frame = self._frame(pending.write, guard=False)
        self.bytes += len(frame) - len(pending.frame)
        pending.frame = frame
        self._unsent.appendleft(pending)

    def _refuse(self, pending: Pending, message: str, now: float, answers: Answers) -> None:
        fault = classify(message)
        pending.refused_since = pending.refused_since or now
        if fault is Fault.PERMANENT or now - pending.refused_since >= self._give_up_after:
            answers.given_up.append((pending.write.task_id, message))
            outcome = StoreOutcome.REFUSED if fault is Fault.PERMANENT else StoreOutcome.FAILED
            self._settle(pending, outcome, answers)
            return
        self._refused.append(pending)
        self._refused_ids.add(pending.write.task_id)
        self.probing = True
        answers.refusal = message
        if fault is Fault.RECONNECT:
            answers.reconnect = message

    @property
    def can_repeat_refused(self) -> bool:
        """Whether only refused writes are left, so their repetition can be scheduled."""
        return bool(self._refused) and not self._sent

    def recover(self) -> None:
        """Move every unanswered write to the front of the unsent ones, oldest first."""
        self._unsent.extendleft(reversed(self._sent))
        self._unsent.extendleft(reversed(self._refused))
        self._sent.clear()
        self._refused.clear()
        self._refused_ids.clear()

    def clear(self) -> list[Pending]:
        """Empty the queue and return its writes, oldest first."""
        self.recover()
        left = list(self._unsent)
        self._unsent.clear()
        self.bytes = 0
        return left
