"""Samples the memory of the master process, for ``memsample`` and ``memdump``.

Used by ``native.commands`` on remote control's thread. Texts are Celery's, because tools read them. It must never keep
more than a bounded number of samples.
"""

from __future__ import annotations

import gc
import os
import random
from collections import deque
from typing import Final

from turbo.spawner import kernel

#: The most samples kept until the next dump.
_MOST: Final = 1_000
_UNITS: Final = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB"), (1, "b"))


class MemorySamples:
    """The samples since the last dump."""

    def __init__(self) -> None:
        self._samples: deque[str] = deque(maxlen=_MOST)

    def sample(self) -> str:
        """Take a sample and return it: the resident memory with its unit."""
        now = _resident()
        self._samples.append(now)
        return now

    def dump(self, most: int) -> str:
        """Forget all samples; return ``most`` of them and what is used now.

        If there are more, they are chosen by chance.
        """
        samples = list(self._samples)
        self._samples.clear()
        if len(samples) > most:
            samples = random.sample(samples, max(0, most))
        gc.collect()
        end = _resident()
        lines = ["- rss (sample):", *(f"-    > {each}," for each in samples)] if samples else []
        return "\n".join([*lines, f"- rss (end): {end}.", ""])


def _resident() -> str:
    return shown(kernel.resident_bytes(os.getpid()) or 0)


def shown(size: int) -> str:
    """Format bytes with five digits and a unit: ``52.312MB``."""
    unit, name = next((unit, name) for unit, name in _UNITS if size >= unit or unit == 1)
    return f"{size // unit}{name}" if size % unit == 0 else f"{size / unit:.5}{name}"
