"""Reads the memory limit of this process's control group (version 1 or 2).

Called once by the command, for the default of a child's hard memory limit. An unreadable file counts as no limit.
Changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
#: Version 1 writes "no limit" as the largest multiple of a page; a value this large is no limit.
_NO_LIMIT: Final = 1 << 60


def memory_limit(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> int | None:
    """Return the lowest memory limit of this process's group and its parents in bytes, or None."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits = [limit for line in lines for limit in _limits(line, root)]
    return min(limits, default=None)


def _limits(line: str, root: Path) -> Iterator[int]:
    """Yield the limits for one line of ``/proc/self/cgroup``, ``number:controllers:path``."""
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if "memory" in controllers.split(","):
        top, name = root / "memory", "memory.limit_in_bytes"
    elif number == "0" and not controllers:
        top, name = root, "memory.max"
    else:
        return
    # In a container the path may be the host's, while the container's own group is mounted as the root.
    group = top / path.lstrip("/")
    for directory in {top, group, *(each for each in group.parents if top in each.parents)}:
        limit = _read(directory / name)
        if limit is not None:
            yield limit


def _read(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    if not text.isdigit():
        return None  # "max"
    limit = int(text)
    return limit if limit < _NO_LIMIT else None
