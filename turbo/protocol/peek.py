"""Finds a message's ETA, expiry and limits without decoding its headers.

It only says whether there are any.

Before it: the content header as received. After it: ``policy.admission``, which decodes only what is flagged here.
Runs in the master, once per message. It must never decode a value or raise, and never report "not set" without having
reached the key: it skips over every value before a key, so that text in a value, such as ``argsrepr``, cannot be taken
for a key.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from turbo.protocol.own_headers import LEASE
from turbo.protocol.properties import header_table_span
from turbo.protocol.table import TableError

#: The message has a time before which it must not run.
ETA: Final = 1
#: The message has a time after which it must not run.
EXPIRES: Final = 2
#: The message has a hard or a soft limit of its own.
LIMITS: Final = 4
#: A key is missing (protocol 1, other producers) or the headers are damaged: decode them to find out.
UNKNOWN: Final = 8
#: A worker has held the message before and published it again. Detected if this is the first header.
AGAIN: Final = 16

_U32 = struct.Struct(">I").unpack_from
#: Class id. The property list begins at ``_FRONT_AT``.
_BASIC: Final = b"\x00\x3c"
_FRONT_AT: Final = 14
# The begin of the table in Celery since 5.3: length (4 bytes), lang, task, id, and then these keys.
_FRONT: Final = b"\x10application/json\x05utf-8"
_LANG: Final = b"\x04langS\x00\x00\x00\x02py\x04taskS"
_LANG_AT: Final = _FRONT_AT + len(_FRONT) + 4
_TASK_AT: Final = _LANG_AT + len(_LANG)
#: Where such a header names its task: NAME_MARK at NAME_FROM, four bytes of length, the name at NAME_AT.
NAME_FROM: Final = _LANG_AT
NAME_AT: Final = _TASK_AT + 4
NAME_MARK: Final = _LANG
_ID: Final = b"\x02idS"
_PLAIN: Final = b"\x06shadowV\x03etaV\x07expiresV\x05groupV\x0bgroup_indexV\x07retriesI\0\0\0\0\ttimelimitA\0\0\0\x02VV"

_NO_TIMES: Final = b"\x06shadowV\x03etaV\x07expiresV\x05group"
_NO_TIMES_SIZE: Final = len(_NO_TIMES)
_NO_INDEX: Final = b"\x0bgroup_indexV"
_INDEX: Final = b"\x0bgroup_indexI"
_RETRIES: Final = b"\x07retriesI"
_UNLIMITED: Final = b"\ttimelimitA\0\0\0\x02VV"

_SIZES: Final = {
    ord(letter): size
    for letter, size in {
        "t": 1, "b": 1, "B": 1, "U": 2, "u": 2, "s": 2, "I": 4, "i": 4, "L": 8, "l": 8, "f": 4, "d": 8, "D": 5,
        "T": 8, "V": 0,
    }.items()
}  # fmt: skip
_LONG: Final = frozenset(b"SAFx")
_VOID: Final = ord("V")
_TEXT: Final = ord("S")
_NO_LIMITS: Final = b"A\x00\x00\x00\x02VV"
_WANTED: Final = {b"eta": ETA, b"expires": EXPIRES, b"timelimit": LIMITS, LEASE.encode(): AGAIN}


# hot: bench/protocol.py, once a message in the master
def peek(header_payload: bytes) -> int:
    """Return the flags of what is set; UNKNOWN if only decoding can tell."""
    try:
        if (
            header_payload[12] & 0xE0 == 0xE0
            and header_payload.startswith(_FRONT, _FRONT_AT)
            and header_payload.startswith(_LANG, _LANG_AT)
        ):
            at = _TASK_AT + 4 + _U32(header_payload, _TASK_AT)[0]
            if header_payload.startswith(_ID, at):
                at += 8 + _U32(header_payload, at + 4)[0]
                if header_payload.startswith(_PLAIN, at):
                    return 0
                if header_payload.startswith(_NO_TIMES, at) and _no_limits(header_payload, at + _NO_TIMES_SIZE):
                    return 0
    except (struct.error, IndexError):
        return UNKNOWN
    return _walk(header_payload)


def _no_limits(payload: bytes, at: int) -> bool:
    """Whether only a group and a retry count precede limits that are not set.

    ``at`` is where they begin. This is for members of groups, steps of chains and retries: it is three times as fast as
    ``_walk``.
    """
    if payload[at] == _TEXT:
        at += 4 + _U32(payload, at + 1)[0]
    elif payload[at] != _VOID:
        return False
    at += 1
    if payload.startswith(_NO_INDEX, at):
        at += len(_NO_INDEX)
    elif payload.startswith(_INDEX, at):
        at += len(_INDEX) + 4
    return payload.startswith(_RETRIES, at) and payload.startswith(_UNLIMITED, at + len(_RETRIES) + 4)


def _walk(payload: bytes) -> int:
    """Scan the table key by key, for messages with something set.

    Other producers' messages are scanned too.
    """
    found = seen = 0
    try:
        start, end = header_table_span(payload)
        at = start + 4
        while at < end and seen != ETA | EXPIRES | LIMITS:
            after = at + 1 + payload[at]
            flag = _WANTED.get(payload[at + 1 : after], 0)
            kind = payload[after]
            size = _SIZES.get(kind)
            if size is None:
                if kind not in _LONG:
                    return found | UNKNOWN
                size = 4 + _U32(payload, after + 1)[0]
            if flag == AGAIN:
                found |= flag
            elif flag:
                seen |= flag
                if kind != _VOID and not (flag == LIMITS and payload.startswith(_NO_LIMITS, after)):
                    found |= flag
            at = after + 1 + size
        if at > end:
            return found | UNKNOWN
    except (TableError, struct.error, IndexError):
        return found | UNKNOWN
    return found if seen == ETA | EXPIRES | LIMITS else found | UNKNOWN


def task_name(header_payload: bytes) -> bytes | None:
    """Return the bytes of the task's name from the headers.

    Returns None if they contain no such text.
    """
    return _front_text(header_payload, 0) or _text(header_payload, b"task")


def task_id(header_payload: bytes) -> bytes | None:
    """Return the bytes of the task's id from the headers.

    Returns None as above, and for protocol 1, which has it in the body.
    """
    return _front_text(header_payload, 1) or _text(header_payload, b"id")


def _front_text(payload: bytes, which: int) -> bytes | None:
    """Return the name (0) or id (1) from a table that begins as Celery writes it.

    Else None.
    """
    try:
        if not payload.startswith(_LANG, _LANG_AT) or not payload.startswith(_FRONT, _FRONT_AT):
            return None
        at = _TASK_AT
        size = _U32(payload, at)[0]
        if which:
            at += 4 + size
            if not payload.startswith(_ID, at):
                return None
            at += 4
            size = _U32(payload, at)[0]
    except (struct.error, IndexError):
        return None
    return payload[at + 4 : at + 4 + size]


def _text(payload: bytes, key: bytes) -> bytes | None:
    """Return the text of a key of the table, skipping the other entries.

    Returns None if there is none.
    """
    try:
        start, end = header_table_span(payload)
        at = start + 4
        while at < end:
            after = at + 1 + payload[at]
            kind = payload[after]
            size = _SIZES.get(kind)
            if size is None:
                if kind not in _LONG:
                    return None
                size = 4 + _U32(payload, after + 1)[0]
            if payload[at + 1 : after] == key:
                return payload[after + 5 : after + 1 + size] if kind == _TEXT else None
            at = after + 1 + size
    except (TableError, struct.error, IndexError):
        return None
    return None


#: A text that JSON does not escape, and an id that is the text of a UUID. Neither matches the begin of the next key.
_UNESCAPED: Final = rb"(.{4})([^\x00-\x1f\"\\\x80-\xff]*)"
_UUID: Final = rb"\x00\x00\x00\x24([0-9a-f-]{36})"
_plain_message = re.compile(
    b"".join(
        (
            re.escape(_FRONT), rb".{4}", re.escape(_LANG), _UNESCAPED, re.escape(_ID), _UUID, re.escape(_PLAIN),
            rb"\x07root_idS", _UUID, rb"\x09parent_id(?:V|S", _UUID, rb")\x08argsreprS", _UNESCAPED,
            rb"\x0akwargsreprS", _UNESCAPED,
        )
    ),
    re.DOTALL,
).match  # fmt: skip
_LENGTHS: Final = struct.Struct(">III").pack


# hot: bench drain --events, once a message in the master
def plain_texts(payload: bytes) -> tuple[bytes, bytes, bytes, bytes | None, bytes, bytes] | None:
    """Return name, ids and argument texts of a plain message; None for others.

    These are name, id, root id, parent id, ``argsrepr`` and ``kwargsrepr``. A plain message is as Celery writes it, has
    no shadow, time, group, retry or limit, and its texts are the same in JSON.
    """
    found = _plain_message(payload, _FRONT_AT)
    if found is None or payload[12] & 0xE0 != 0xE0:
        return None
    name_size, name, task_id, root, parent, args_size, args, kwargs_size, kwargs = found.groups()
    if name_size + args_size + kwargs_size != _LENGTHS(len(name), len(args), len(kwargs)):
        return None  # the text goes on, with something that only looks like the next key
    return name, task_id, root, parent, args, kwargs
