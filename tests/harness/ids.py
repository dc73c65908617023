"""Names for the cases of a test that are the same in every process: pytest-xdist compares them."""

from __future__ import annotations

import re


def named(value: object) -> str:
    """The value's ``repr`` without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
