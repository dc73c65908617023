"""Converts any value to one that every serializer can write.

Replies that show users' settings need this.

Runs in the master on a thread beside the loop, because it calls ``repr`` of users' objects. It must never raise for a
value that cannot be converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from turbo.protocol.saferepr import saferepr

#: The deepest nesting of containers; deeper values are shown as text.
_DEEPEST = 20


def plain(value: Any, depth: int = 0) -> Any:
    """Keep text, numbers, lists and mappings; convert everything else to text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if depth >= _DEEPEST:
        return saferepr(value)
    if isinstance(value, Mapping):
        return {
            str(key): plain(inner, depth + 1)
            for key, inner in value.items()
            if not (isinstance(key, str) and key.startswith("__"))
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner, depth + 1) for inner in value]
    if isinstance(value, timedelta):
        return str(value)
    return saferepr(value)
