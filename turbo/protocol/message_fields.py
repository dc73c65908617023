"""Checks the fields of a message that are not as nearly all messages have them.

``message`` calls it, with the field's name for the error. Runs in every process. Pure. It must never raise anything but
``InvalidTaskError``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from turbo.exceptions import InvalidTaskError
from turbo.protocol.instants import parse_eta
from turbo.protocol.saferepr import clean, saferepr
from turbo.protocol.signature import parse_signature, parse_signatures

if TYPE_CHECKING:
    from datetime import datetime, tzinfo


def invalid(name: str, value: object, wanted: str) -> InvalidTaskError:
    """Return the error that names the field; None is the value of a missing one."""
    if value is None:
        return InvalidTaskError(f"{name} is missing")
    return InvalidTaskError(f"{name} must be {wanted}, not {saferepr(value, 80)}")


def count(name: str, value: object) -> int:
    """Return 0 for a missing field; raise ``InvalidTaskError`` for any other."""
    if value is None:
        return 0
    raise invalid(name, value, "a whole number, at least 0")


def flag(name: str, value: object) -> bool:
    """Return the truth value of 0 or 1.

    Raises ``InvalidTaskError`` for any other value.
    """
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise invalid(name, value, "true or false")


def root(name: str, value: object, default: str) -> str:
    """Return ``default`` for a missing id; raise ``InvalidTaskError`` for any other."""
    if value is None:
        return default
    raise invalid(name, value, "text")


def when(name: str, value: object, zone: tzinfo) -> datetime | None:
    """Return the time, None for an empty text.

    Raises ``InvalidTaskError`` for any other value that is no time.
    """
    if value == "":
        return None
    try:
        return parse_eta(value, zone)
    except ValueError as error:
        raise InvalidTaskError(f"{name} is not a valid time: {saferepr(value, 80)}: {clean(str(error), 80)}") from error


def time_limits(value: object) -> list[float | None] | None:
    """Return [hard, soft] in seconds, None for an empty list.

    Raises ``InvalidTaskError`` for any other value.
    """
    if not value and isinstance(value, (list, tuple)):
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise invalid("timelimit", value, "[hard, soft]")
    for limit in value:
        if limit is None:
            continue
        number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not number or not math.isfinite(limit) or limit < 0:
            raise invalid("timelimit", value, "[hard, soft] in seconds, each at least 0 or null")
    return list(value)


def check_follow_ups(callbacks: object, errbacks: object, chain: object, chord: object) -> None:
    """Raise ``InvalidTaskError`` unless all that are given are signatures."""
    if callbacks:
        parse_signatures(callbacks, "callbacks")
    if errbacks:
        parse_signatures(errbacks, "errbacks")
    if chain:
        parse_signatures(chain, "chain")
    if chord:
        parse_signature(chord, "chord")


def check_stamps(stamped: object, stamps: object) -> None:
    """Raise ``InvalidTaskError`` unless names are a list of texts, stamps a mapping.

    None of each is valid.
    """
    if stamped is not None:
        named = isinstance(stamped, (list, tuple)) and all(isinstance(name, str) for name in stamped)
        if not named:
            raise invalid("stamped_headers", stamped, "a list of names")
    if stamps is not None and not isinstance(stamps, Mapping):
        raise invalid("stamps", stamps, "a mapping")


def encodable_or_none(text: str | None) -> str | None:
    """Return the text, or None if it cannot be encoded as UTF-8."""
    try:
        check_encodable("text", text)
    except InvalidTaskError:
        return None
    return text


def check_encodable(name: str, text: str | None) -> None:
    """Raise ``InvalidTaskError`` if the text cannot be encoded as UTF-8."""
    if text is None:
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidTaskError(f"{name} is not valid Unicode") from error
