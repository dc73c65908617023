"""The size and the interval of a batch: how many messages, for how long.

Pure. An app gives it as ``@app.task(batch=…)``; ``master.delivery.batches`` collects by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one task that one call of its body handles: up to ``size`` of them.

    A batch that is not full runs ``interval`` seconds after its first message came. Raises TypeError or ValueError for
    what cannot be a size or an interval.
    """

    size: int
    interval: float

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int):
            raise TypeError(f"the size of a batch is a whole number of messages, not {self.size!r}")
        if isinstance(self.interval, bool) or not isinstance(self.interval, int | float):
            raise TypeError(f"the interval of a batch is a number of seconds, not {self.interval!r}")
        if self.size < 1:
            raise ValueError(f"a batch holds at least one message, not {self.size}")
        if not 0 < self.interval < math.inf:
            raise ValueError(f"the interval of a batch is more than 0 seconds, not {self.interval!r}")


def batch_of(given: object) -> Batch | None:
    """Return the Batch that a task's option ``batch`` means, or None.

    The option may also be a pair of size and interval.
    """
    if given is None or isinstance(given, Batch):
        return given
    if isinstance(given, tuple | list) and len(given) == 2:
        return Batch(*given)
    raise TypeError(f"batch is Batch(size=…, interval=…) or a pair of both, not {given!r}")
