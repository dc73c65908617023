"""Any value as one that every serializer can write: for replies that show what users configured.

Pure but for ``repr`` of the users' own objects, which is why its callers run beside the master's loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from turbo.protocol.saferepr import saferepr

#: Containers within containers; what is deeper is shown as text.
_DEEPEST = 20


def plain(value: Any, depth: int = 0) -> Any:
    """Text, numbers, lists and mappings stay what they are; everything else becomes text."""
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
