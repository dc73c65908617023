"""Numbers as operators write them: memory with units, seconds, how many children.

Used by the command line's option types and by the merging of settings. Reads the machine's CPU count; changes
nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)\s*", re.IGNORECASE)
_KIB: Final = {"k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}
_CPU_MAX: Final = "/sys/fs/cgroup/cpu.max"


def kib(value: object) -> int | None:
    """Memory in KiB: a bare number is KiB already (Celery's unit), text may say ``512MB`` or ``1.5G``.

    Units are powers of 1024. None and 0 mean no limit. Raises ValueError for anything else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if found is None or (found[3] and not found[2] and found[3].lower() != "b"):
            raise ValueError(f"{value!r} is no amount of memory; write KiB, or a unit: 512MB, 1GB")
        number, unit = float(found[1]), found[2].lower()
        if not unit and found[3]:
            return int(number / 1024) or None
        return int(number * _KIB[unit or "k"]) or None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{value!r} is no amount of memory; write KiB, or a unit: 512MB, 1GB")
    return int(value) or None


def shown_kib(value: int) -> str:
    """Memory for people: ``512 MiB``."""
    for unit, size in (("GiB", 1024**2), ("MiB", 1024)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value} KiB"


def usable_cpus(cpu_max: Path = Path(_CPU_MAX)) -> int:
    """CPUs that this process may use: its affinity, lowered by the container's quota where there is one."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return allowed
    if quota == "max":
        return allowed
    return max(1, min(allowed, -(-int(quota) // int(period))))


def children(value: object) -> int | None:
    """A number of children; None for ``auto``, 0 and nothing. Raises ValueError."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "auto")):
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is no number of children")
    try:
        number = int(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number of children; write a number, or auto") from None
    if number < 0:
        raise ValueError(f"{value!r} is no number of children")
    return number or None


class Memory(click.ParamType[int]):
    """Option type: memory, as KiB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; 0 means no limit."""
        try:
            return kib(value) or 0
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Concurrency(click.ParamType[int]):
    """Option type: a number of children; 0 means as many as there are CPUs."""

    name = "number|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        try:
            return children(value) or 0
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Positive(click.ParamType[float]):
    """Option type: seconds above zero, whole or not."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        try:
            seconds = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r}: must be above zero", param, ctx)
        return int(seconds) if seconds.is_integer() else seconds
