"""The id of a task or group as the text that messages, keys and comparisons have.

Programs give ids of other kinds too: a ``uuid.UUID``, a text of a class of its own. Asked wherever an id comes in from
a program: in calls, handles of results, remote control. Pure. It must never be needed for an id that a message brought.
"""

from __future__ import annotations

from typing import Any


def text_id(given: Any) -> str:
    """Return an id as plain text: of a text its characters, of bytes their UTF-8, of anything else what str() says."""
    if type(given) is str:
        return given
    if isinstance(given, str):
        return str.__str__(given)
    return given.decode() if isinstance(given, bytes) else str(given)


def text_ids(given: Any) -> str | list[str]:
    """Return one id or several, as remote control takes them, as text."""
    return [text_id(each) for each in given] if isinstance(given, (list, tuple, set, frozenset)) else text_id(given)
