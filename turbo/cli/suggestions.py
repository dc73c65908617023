"""Suggests the name that somebody may have meant.

Used by every part of the command line that looks a name up. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LIKENESS: Final = 0.6


def nearest(name: str, known: Iterable[str], likeness: float = _LIKENESS) -> str | None:
    """Return the name of ``known`` that is most like ``name``.

    None if none is like it.
    """
    import difflib  # only a misspelt name needs its 0.2 MB

    near = difflib.get_close_matches(name, list(known), 1, likeness)
    return near[0] if near else None


def hint(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?``, or nothing."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
