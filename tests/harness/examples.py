"""How many examples a property is tried with: enough in every run, many more in the long run of `tox -e torture`."""

from __future__ import annotations

import os

#: How many times more examples the long run takes.
LONG = 10


def examples(count: int) -> int:
    """Return the number of examples for Hypothesis: ``count``, or ten times as many under ``TURBO_TORTURE=1``."""
    return count * LONG if os.environ.get("TURBO_TORTURE") == "1" else count
