"""Figures that the tasks and the tests share; imports nothing, since workers import it."""

from __future__ import annotations

#: Seconds: the soft limit of ``straddle``.
SOFT_LIMIT = 0.002
