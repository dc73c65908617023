"""Merges stamps, the custom headers of a call, from several sources.

Used by ``Signature.stamp`` and when a callback inherits stamps. Pure. A mapping of stamps also lists their names under
``stamped_headers``, which distinguishes stamps from the other headers of a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES: Final = "stamped_headers"


def merged(
    stamps: Mapping[str, Any],
    found: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None,
    append: bool,
) -> dict[str, Any]:
    """Merge ``stamps``, those ``found`` by a visitor, and a call's ``own``.

    If several sources have a value for a stamp, the first is kept; with ``append`` all are kept, as a list.
    """
    made = dict(stamps)
    made.setdefault(NAMES, list(stamps))
    made[NAMES] = list(made[NAMES])
    if found is not None:
        visited = dict(found)
        visited.setdefault(NAMES, list(found))
        _add(made, visited, append)
    if own is not None:
        names = {*made[NAMES], *(own.get(NAMES) or ())}
        _add(made, {name: value for name, value in own.items() if name in names}, append)
        made[NAMES] = [*made[NAMES], *names]
    made[NAMES] = list(dict.fromkeys(made[NAMES]))
    return made


def _add(made: dict[str, Any], more: Mapping[str, Any], append: bool) -> None:
    for name, value in more.items():
        there = made.get(name)
        if name not in made:
            made[name] = value
        elif isinstance(there, dict):
            made[name] = dict(there)
            _add(made[name], value or {}, True)
        elif isinstance(there, list) and isinstance(value, list):
            made[name] = [*there, *value]
        elif append:
            values = [there] if isinstance(there, (int, float, str)) else [] if there is None else list(there)
            made[name] = values + (value if isinstance(value, list) else [value])
