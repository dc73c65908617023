"""Converts ids of tasks and groups to plain text, as in messages and keys.

Programs also pass ids of other types: a ``uuid.UUID``, or a subclass of str. This is used wherever a program passes an
id: in calls, results and remote control. Pure. Ids from messages are text already and must never need it.
"""

from __future__ import annotations

from typing import Any


def text_id(given: Any) -> str:
    """Return an id as plain text.

    Bytes are decoded as UTF-8, other types converted by ``str``.
    """
    if type(given) is str:
        return given
    if isinstance(given, str):
        return str.__str__(given)
    return given.decode() if isinstance(given, bytes) else str(given)


def text_ids(given: Any) -> str | list[str]:
    """Return one id, or a list of several, as plain text; remote control accepts both."""
    return [text_id(each) for each in given] if isinstance(given, (list, tuple, set, frozenset)) else text_id(given)
