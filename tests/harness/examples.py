"""The number of examples for property tests: few in every run, ten times as many in `tox -e torture`."""

from __future__ import annotations

import os

#: Factor of the number of examples in the long run.
LONG = 10


def examples(count: int) -> int:
    """Return the number of examples for Hypothesis: ``count``, or ten times as many under ``TURBO_TORTURE=1``."""
    return count * LONG if os.environ.get("TURBO_TORTURE") == "1" else count
