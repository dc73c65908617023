"""Finds names in a configuration that are probably misspelt settings. Pure.

Called when a worker starts. A name that is like no setting is the program's own and nobody's mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.app.conf.settings import OLD_NAMES, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Arguments of an app's constructor, which are settings under another name.
_ARGUMENTS: Final = ("backend", "broker")
_LIKENESS: Final = 0.85


def misspelt(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that is no setting but like one, and the name it is like."""
    known = [*SETTINGS, *_ARGUMENTS]
    for name in sorted(names):
        if name in SETTINGS or name in OLD_NAMES or name in _ARGUMENTS or not name.islower():
            continue
        import difflib  # only a misspelt name needs its 0.2 MB

        near = difflib.get_close_matches(name, known, 1, _LIKENESS)
        if near:
            yield name, near[0]
