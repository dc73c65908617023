"""Names for parametrized cases that are the same in every process, because pytest-xdist compares them."""

from __future__ import annotations

import re


def named(value: object) -> str:
    """Return the value's ``repr`` without memory addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
