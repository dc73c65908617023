"""Packs and unpacks the rings' records: TASK, STARTED, PUBLISH, DONE, ….

The dispatcher and the child's reporting pack them, the child's intake and ``master.outcome.outcomes`` unpack them. In
between, the rings move kinds and bytes without interpreting them. Pure. Both ends are the same version of turbo
(children are forked from the command that runs the master), so the layouts carry no version. It must never trust a
length: a task's body may have overwritten its ring.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Record kinds. 0 is not used, so that a zeroed page is not a record.
TASK: Final = 1
#: Master to child: finish the claimed tasks and exit.
STOP: Final = 2
#: Master to child: as STOP, because another child has replaced this one.
MAKE_ROOM: Final = 8
#: Master to child: do nothing. Claiming a PROBE is itself the reply.
PROBE: Final = 7
#: Master to child: several TASK records in one, whose messages are run as one batch. The sequences of the others follow
#: that of the record, which is the first message's.
BATCH: Final = 11
STARTED: Final = 3
DONE: Final = 4
PUBLISH: Final = 5
#: Child to master: the task runs as a coroutine from now on, and the child claims more. Payload as for STARTED.
ADMITTED: Final = 8
STORE: Final = 6
#: Child to master: store this document of a task and answer when it is stored.
ASKED: Final = 9

#: Child to master: an event that a task sends.
EVENT: Final = 10

# Flags of a STARTED record.
EARLY_ACK: Final = 1
HAS_LIMITS: Final = 2
#: The master passes this record to its outcome hooks.
START_FOR_HOOKS: Final = 4
#: Of an ADMITTED record: its task runs in a batch whose body is a function.
IN_FUNCTION: Final = 8

# Flags of a DONE record.
#: A payload for the outcome hooks is at its end, instead of a document.
FOR_HOOKS: Final = 1
#: The texts of a task event follow its head: see :func:`pack_texts`.
WITH_TEXTS: Final = 2

# Flag of a TASK record: hard and soft limit of its task follow the head, since they were changed while the worker runs.
NEW_LIMITS: Final = 1

_TASK_HEAD = struct.Struct("<III")
#: The number of TASK records in a BATCH record; their lengths follow.
_COUNT = struct.Struct("<I")
#: Seconds; 0 for none.
_LIMITS = struct.Struct("<dd")
_STARTED = struct.Struct("<BQQd")
#: verb, ending, flags, runtime in ns, due in ns since the epoch (HOLD only)
_DONE = struct.Struct("<BBHQQ")
#: lengths of both texts
_TEXTS = struct.Struct("<II")
#: whether the members name a queue, length of the type
_EVENT = struct.Struct("<BI")
#: guard, lengths of id, reply_to, correlation id, content type, content encoding, payload
_STORE = struct.Struct("<BIIIIII")
#: flags, lengths of exchange, routing key, header, body
_PUBLISH = struct.Struct("<BHHII")
#: ticket, verb
_ASKED = struct.Struct("<QB")
#: Tickets are below this, because an answer needs one more bit.
_TICKETS: Final = 1 << 63
_NO_VERB: Final = 255
_MANDATORY: Final = 1
_AFTER_STATES: Final = 2


class FrameError(ValueError):
    """A record's contents do not match its length."""


def pack_task(flags: int, deliver: bytes, header: bytes, body: bytes) -> tuple[bytes, ...]:
    """Return the parts of a TASK record: the delivery exactly as the broker sent it."""
    return (_TASK_HEAD.pack(flags, len(deliver), len(header)), deliver, header, body)


def pack_limited_task(
    hard: float | None, soft: float | None, deliver: bytes, header: bytes, body: bytes
) -> tuple[bytes, ...]:
    """Return the parts of a TASK record with new limits, in seconds."""
    head = _TASK_HEAD.pack(NEW_LIMITS, len(deliver), len(header))
    return (head, _LIMITS.pack(hard or 0.0, soft or 0.0), deliver, header, body)


def unpack_task(payload: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Return (flags, deliver arguments, content header, body)."""
    flags, deliver_size, header_size = _TASK_HEAD.unpack_from(payload)
    deliver_at = 28 if flags & NEW_LIMITS else 12
    header_at = deliver_at + deliver_size
    body_at = header_at + header_size
    if body_at > len(payload):
        raise FrameError("task record shorter than its parts")
    return flags, payload[deliver_at:header_at], payload[header_at:body_at], payload[body_at:]


def pack_batch(records: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
    """Return the parts of a BATCH record, from the parts of its TASK records."""
    sizes = [sum(map(len, parts)) for parts in records]
    head = _COUNT.pack(len(sizes)) + struct.pack(f"<{len(sizes)}I", *sizes)
    return (head, *(part for parts in records for part in parts))


def unpack_batch(payload: bytes) -> list[bytes]:
    """Return the payloads of the TASK records in a BATCH record.

    Raises FrameError if the lengths do not add up.
    """
    count = _COUNT.unpack_from(payload)[0] if len(payload) >= _COUNT.size else 0
    at = _COUNT.size * (1 + count)
    if at > len(payload):
        raise FrameError("batch record shorter than its head")
    sizes = struct.unpack_from(f"<{count}I", payload, _COUNT.size)
    if at + sum(sizes) != len(payload):
        raise FrameError("batch record's lengths do not add up")
    records = []
    for size in sizes:
        records.append(payload[at : at + size])
        at += size
    return records


def unpack_limits(payload: bytes) -> tuple[float | None, float | None]:
    """Return hard and soft limit of a TASK record with :data:`NEW_LIMITS`."""
    hard, soft = _LIMITS.unpack_from(payload, _TASK_HEAD.size)
    return hard or None, soft or None


def pack_started(flags: int, soft_deadline_ns: int, hard_deadline_ns: int, time_limit: float) -> bytes:
    """Return the payload of a STARTED record.

    Deadlines are ``time.monotonic_ns`` values, 0 for none. ``time_limit`` is the hard limit in seconds, for the text of
    the error.
    """
    return _STARTED.pack(flags, soft_deadline_ns, hard_deadline_ns, time_limit)


#: The most frequent STARTED payloads, so that the hot path need not pack them.
STARTED_EARLY: Final = _STARTED.pack(EARLY_ACK, 0, 0, 0.0)
STARTED_LATE: Final = _STARTED.pack(0, 0, 0, 0.0)


def unpack_started(payload: bytes) -> tuple[int, int, int, float]:
    """Return (flags, soft deadline, hard deadline, hard limit in seconds)."""
    if len(payload) != _STARTED.size:
        raise FrameError("started record has a wrong length")
    flags, soft, hard, limit = _STARTED.unpack(payload)
    return flags, soft, hard, limit


@dataclass(slots=True)
class StoreRequest:
    """One document for the result store, encoded by the child."""

    task_id: str
    payload: bytes
    #: Whether an existing SUCCESS must not be overwritten.
    guard: bool
    reply_to: str
    correlation_id: str
    content_type: str
    content_encoding: str


def pack_store(store: StoreRequest) -> bytes:  # hot: bench drain --results
    """Pack a store request: a STORE record's payload, or a DONE record's tail."""
    one, two, three, four, five = (
        store.task_id, store.reply_to, store.correlation_id, store.content_type, store.content_encoding,
    )  # fmt: skip
    whole = one + two + three + four + five
    if whole.isascii():
        # As nearly always: then a text has as many bytes as characters.
        head = _STORE.pack(store.guard, len(one), len(two), len(three), len(four), len(five), len(store.payload))
        return head + whole.encode() + store.payload
    raw = [text.encode("utf-8", "surrogatepass") for text in (one, two, three, four, five)]
    head = _STORE.pack(store.guard, *map(len, raw), len(store.payload))
    return b"".join((head, *raw, store.payload))


def unpack_store(payload: bytes, offset: int = 0) -> StoreRequest:  # hot: bench drain --results
    """Undo :func:`pack_store`. Raises FrameError if the lengths do not add up."""
    if len(payload) - offset < _STORE.size:
        raise FrameError("store record shorter than its head")
    guard, one, two, three, four, five, payload_size = _STORE.unpack_from(payload, offset)
    # The ends of the texts, which follow one another.
    two += one
    three += two
    four += three
    five += four
    at = offset + _STORE.size
    raw = payload[at : at + five]
    if at + five + payload_size != len(payload):
        raise FrameError("store record's lengths do not add up")
    text = raw.decode("utf-8", "surrogatepass")
    if len(text) == five:
        texts = [text[:one], text[one:two], text[two:three], text[three:four], text[four:]]
    else:  # the ends are those of bytes
        parts = (raw[:one], raw[one:two], raw[two:three], raw[three:four], raw[four:])
        texts = [part.decode("utf-8", "surrogatepass") for part in parts]
    return StoreRequest(texts[0], payload[at + five :], bool(guard), *texts[1:])


@dataclass(slots=True)
class Asked:
    """A question of a waiting task: is its document stored?

    Without one: are its messages confirmed?
    """

    #: The question's number, unique for the child process; the answer in the control page contains it.
    ticket: int
    #: How the message is settled if the child dies after this is stored; None for an intermediate state, which is
    #: stored at once. Other documents are stored after the broker has confirmed the task's messages.
    verb: int | None
    #: None only if there is a verb.
    store: StoreRequest | None


def pack_asked(ticket: int, verb: int | None, store: bytes) -> tuple[bytes, ...]:
    """Return the parts of an ASKED record.

    ``store`` is a packed store request or empty.
    """
    return (_ASKED.pack(ticket, _NO_VERB if verb is None else verb), store)


def unpack_asked(payload: bytes) -> Asked:
    """Undo :func:`pack_asked`."""
    if len(payload) < _ASKED.size:
        raise FrameError("asked record shorter than its head")
    ticket, verb = _ASKED.unpack_from(payload)
    if ticket >= _TICKETS:
        raise FrameError(f"asked record with the impossible ticket {ticket}")
    if len(payload) == _ASKED.size and verb != _NO_VERB:
        return Asked(ticket, verb, None)
    return Asked(ticket, None if verb == _NO_VERB else verb, unpack_store(payload, _ASKED.size))


@dataclass(slots=True)
class Done:
    """The end of one task, as the child reports it."""

    verb: int
    ending: int
    flags: int
    runtime_ns: int
    #: HOLD only: when the task is due, in nanoseconds since the epoch.
    due_ns: int
    store: StoreRequest | None


def pack_done(
    verb: int,
    ending: int,
    flags: int,
    runtime_ns: int,
    due_ns: int = 0,
    store: bytes = b"",
    texts: bytes = b"",
) -> bytes:
    """Pack a DONE record.

    ``store`` is a packed store request or empty, ``texts`` from :func:`pack_texts` or empty.
    """
    if texts:
        return _DONE.pack(verb, ending, flags | WITH_TEXTS, runtime_ns, due_ns) + texts + store
    return _DONE.pack(verb, ending, flags, runtime_ns, due_ns) + store


def pack_texts(first: bytes, second: bytes = b'""') -> bytes:
    """Pack the texts of an end's event, as JSON.

    They are the result's repr, or the exception's and the traceback.
    """
    return _TEXTS.pack(len(first), len(second)) + first + second


def unpack_texts(payload: bytes, offset: int) -> tuple[bytes, bytes, int]:
    """Undo :func:`pack_texts`; return both texts and the offset behind them."""
    if len(payload) - offset < _TEXTS.size:
        raise FrameError("texts of an event shorter than their head")
    one, two = _TEXTS.unpack_from(payload, offset)
    middle = offset + _TEXTS.size + one
    end = middle + two
    if end > len(payload):
        raise FrameError("texts of an event longer than their record")
    return payload[offset + _TEXTS.size : middle], payload[middle:end], end


def pack_event(kind: str, members: bytes, *, names_queue: bool) -> tuple[bytes, ...]:
    """Return an EVENT record's parts: the type, and a JSON object's members."""
    raw = kind.encode("utf-8", "surrogatepass")
    return (_EVENT.pack(names_queue, len(raw)), raw, members)


def unpack_event(payload: bytes) -> tuple[str, bytes, bool]:
    """Return (type, members, whether they name a queue)."""
    if len(payload) < _EVENT.size:
        raise FrameError("event record shorter than its head")
    names_queue, size = _EVENT.unpack_from(payload)
    end = _EVENT.size + size
    if end > len(payload):
        raise FrameError("event record shorter than its type")
    return payload[_EVENT.size : end].decode("utf-8", "surrogatepass"), payload[end:], bool(names_queue)


#: Size of a DONE record without a document.
DONE_SIZE: Final = _DONE.size
#: Its fields: verb, ending, flags, runtime in ns, due in ns. For the hot path, once per task.
unpack_done_head = _DONE.unpack_from


#: The texts of an end of which the child has said nothing.
NO_TEXTS: Final = (b'""', b'""')


def unpack_done_rest(payload: bytes, flags: int) -> tuple[tuple[bytes, bytes], StoreRequest | None, bytes]:
    """Return what follows a DONE record's head: texts, document, what the hooks get.

    Raises FrameError if the lengths do not add up.
    """
    texts, at = NO_TEXTS, _DONE.size
    if flags & WITH_TEXTS:
        first, second, at = unpack_texts(payload, at)
        texts = (first, second)
    if flags & FOR_HOOKS:
        return texts, None, payload[at:]
    return texts, unpack_store(payload, at) if len(payload) > at else None, b""


def unpack_done(payload: bytes) -> Done:
    """Undo :func:`pack_done`."""
    if len(payload) < _DONE.size:
        raise FrameError("done record shorter than its head")
    verb, ending, flags, runtime_ns, due_ns = _DONE.unpack_from(payload)
    return Done(verb, ending, flags, runtime_ns, due_ns, unpack_done_rest(payload, flags & ~FOR_HOOKS)[1])


@dataclass(slots=True)
class PublishRequest:
    """One message that a task sends; the master adds only the AMQP frames."""

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    mandatory: bool
    #: Send it only after the store has answered every state write of its task; set for the task's retry.
    after_states: bool = False


def pack_publish(request: PublishRequest) -> tuple[bytes, ...]:
    """Return the parts of a PUBLISH record."""
    exchange = request.exchange.encode()
    key = request.routing_key.encode()
    flags = (_MANDATORY if request.mandatory else 0) | (_AFTER_STATES if request.after_states else 0)
    head = _PUBLISH.pack(flags, len(exchange), len(key), len(request.header), len(request.body))
    return (head, exchange, key, request.header, request.body)


def unpack_publish(payload: bytes) -> PublishRequest:
    """Undo :func:`pack_publish`."""
    if len(payload) < _PUBLISH.size:
        raise FrameError("publish record shorter than its head")
    flags, exchange_size, key_size, header_size, body_size = _PUBLISH.unpack_from(payload)
    key_at = _PUBLISH.size + exchange_size
    header_at = key_at + key_size
    body_at = header_at + header_size
    if body_at + body_size != len(payload):
        raise FrameError("publish record's lengths do not add up")
    return PublishRequest(
        payload[_PUBLISH.size : key_at].decode(),
        payload[key_at:header_at].decode(),
        payload[header_at:body_at],
        payload[body_at:],
        bool(flags & _MANDATORY),
        bool(flags & _AFTER_STATES),
    )
