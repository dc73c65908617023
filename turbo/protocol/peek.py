"""What the master looks for in a header that it does not decode.

Place: ``master.intake`` calls :func:`peek` for every delivery. A full decode costs many times more than these
searches for encoded keys. Celery's producers write every key, void when unset, in a fixed order, with the texts of
arguments last; only what lies before those texts is searched, because they could imitate any key. A key that is
missing (protocol 1, other producers) means "cannot tell". The child's full decode is the authority. Pure.
"""

from __future__ import annotations

from typing import Final

ETA: Final = 1
EXPIRES: Final = 2
LIMITS: Final = 4
#: A key is missing or the header is of an unexpected form: decode to know.
UNKNOWN: Final = 8

_TEXTS: Final = b"\x08argsreprS"
#: The whole run of keys as Celery writes it when neither time is set: the commonest message by far.
_NEITHER: Final = b"\x03etaV\x07expiresV"
_ETA: Final = b"\x03eta"
_EXPIRES: Final = b"\x07expires"
_LIMITS: Final = b"\x09timelimit"
_NO_LIMITS: Final = b"\x09timelimitA\x00\x00\x00\x02VV"
_VOID: Final = 0x56


def peek(payload: bytes) -> int:
    """Return flags of what is set, or may be; 0 means an ordinary message to be run at once."""
    end = payload.find(_TEXTS)
    if end < 0:
        return UNKNOWN
    flags = 0
    if payload.find(_NEITHER, 0, end) < 0:
        at = payload.find(_ETA, 0, end)
        if at < 0:
            return UNKNOWN
        if payload[at + 4] != _VOID:
            flags = ETA
        at = payload.find(_EXPIRES, 0, end)
        if at < 0:
            return flags | UNKNOWN
        if payload[at + 8] != _VOID:
            flags |= EXPIRES
    if payload.find(_NO_LIMITS, 0, end) < 0:
        flags |= LIMITS if payload.find(_LIMITS, 0, end) >= 0 else UNKNOWN
    return flags
