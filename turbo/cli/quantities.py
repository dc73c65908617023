"""Parses amounts in options and settings: memory, seconds, children.

Used by the command line's option types and when settings are merged. Reads the machine's CPU count; changes nothing.
"""

from __future__ import annotations

import math
import os
import re
from typing import Final

import click

from turbo.cli.cgroup import cpu_limit
from turbo.policy.autoscaling import checked

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)\s*", re.IGNORECASE)
_KIB: Final = {"k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}


def kib(value: object) -> int | None:
    """Return an amount of memory in KiB; None for None and 0 (no limit).

    A number without a unit is in KiB, as in Celery; text may have a unit (``512MB``, ``1.5G``), a power of 1024.
    Raises ValueError for anything else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if found is None or (found[3] and not found[2] and found[3].lower() != "b"):
            raise ValueError(f"{value!r} is not an amount of memory; write KiB, or a unit: 512MB, 1GB")
        number, unit = float(found[1]), found[2].lower()
        if not unit and found[3]:
            return int(number / 1024) or None
        return int(number * _KIB[unit or "k"]) or None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{value!r} is not an amount of memory; write KiB, or a unit: 512MB, 1GB")
    return int(value) or None


def shown_kib(value: int) -> str:
    """Format KiB for people: ``512 MiB``."""
    for unit, size in (("GiB", 1024**2), ("MiB", 1024)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value} KiB"


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use.

    This is its CPU affinity, limited by the quota of its control group. A part of a CPU counts as a whole one.
    """
    allowed, quota = len(os.sched_getaffinity(0)), cpu_limit()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def children(value: object) -> int | None:
    """Return a number of children; None for ``auto``, 0, "" and None.

    Raises ValueError for anything else.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "auto")):
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a number of children")
    try:
        number = int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number of children; write a number or auto") from None
    if number < 0:
        raise ValueError(f"{value!r} is not a number of children")
    return number or None


class Memory(click.ParamType[int]):
    """Option type: memory in KiB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the value; 0 means no limit."""
        try:
            return kib(value) or 0
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Concurrency(click.ParamType[int]):
    """Option type: a number of children; 0 means one per CPU."""

    name = "number|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        try:
            return children(value) or 0
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Autoscale(click.ParamType[tuple[int, int]]):
    """Option type: the most and the least children, in any order.

    One number is the most, and the least is 0.
    """

    name = "max,min"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse; return the larger number first."""
        parts = [str(part) for part in value] if isinstance(value, tuple) else str(value).split(",")
        try:
            least, most = sorted((int(parts[0]), int(parts[1]) if len(parts) > 1 else 0))
        except ValueError:
            self.fail(f"{value!r} is not a number of children, nor two with a comma", param, ctx)
        if len(parts) > 2:
            self.fail(f"{value!r}: expected one or two numbers", param, ctx)
        try:
            return checked(most, least)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Positive(click.ParamType[float]):
    """Option type: a positive number of seconds."""

    name = "seconds"
    _lowest = "must be above zero"

    def _allows(self, seconds: float) -> bool:
        return 0 < seconds < float("inf")

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        try:
            seconds = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not self._allows(seconds):
            self.fail(f"{value!r}: {self._lowest}", param, ctx)
        return int(seconds) if seconds.is_integer() else seconds


class Limit(Positive):
    """Option type: a number of seconds, or 0 for no limit."""

    _lowest = "must not be below zero"

    def _allows(self, seconds: float) -> bool:
        return 0 <= seconds < float("inf")
