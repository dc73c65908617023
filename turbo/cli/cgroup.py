"""Reads the memory and CPU limits of this control group (cgroups v1, v2).

Called once by the command, for the default of a child's hard memory limit and for the default number of children. An
unreadable file counts as no limit. Changes nothing.
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
    """Return the lowest memory limit of this group and its parents, or None.

    It is in bytes.
    """
    limits = [
        limit
        for version, group in _groups("memory", membership, root)
        if (limit := _bytes(group / ("memory.max" if version == 2 else "memory.limit_in_bytes"))) is not None
    ]
    return min(limits, default=None)


def cpu_limit(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> float | None:
    """Return the lowest CPU quota of this group and its parents, or None.

    It is a number of CPUs.
    """
    limits = [
        limit for version, group in _groups("cpu", membership, root) if (limit := _cpus(version, group)) is not None
    ]
    return min(limits, default=None)


def _groups(controller: str, membership: Path, root: Path) -> Iterator[tuple[int, Path]]:
    """Yield cgroups version and folder of each group that may limit this process."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        # ``number:controllers:path``
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            # Controllers that are mounted together have a link for each.
            version, top = 1, root / controller
        elif number == "0" and not controllers:
            version, top = 2, root
        else:
            continue
        # In a container the path may be the host's, while the container's own group is mounted as the root.
        group = top / path.lstrip("/")
        for directory in {top, group, *(each for each in group.parents if top in each.parents)}:
            yield version, directory


def _bytes(path: Path) -> int | None:
    text = _read(path)
    if not text.isdigit():
        return None  # "max"
    limit = int(text)
    return limit if limit < _NO_LIMIT else None


def _cpus(version: int, group: Path) -> float | None:
    if version == 2:
        quota, _, period = _read(group / "cpu.max").partition(" ")
    else:
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    # "max" in version 2, -1 in version 1: no limit.
    if not quota.isdigit() or not period.isdigit() or not int(quota) or not int(period):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
