"""Numbers that tasks and tests share; imports nothing, because workers import it."""

from __future__ import annotations

#: Seconds: the soft limit of ``straddle``.
SOFT_LIMIT = 0.002
