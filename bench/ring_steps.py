"""Measures the ring's four hot steps, with both ends in one process.

``python -m bench rings`` measures the way there and back between two processes; this one tells the steps apart.
``python -m bench.ring_steps`` prints them. It reports, the caller judges.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass

from turbo.ring.link import ChildLink, MasterLink


@dataclass(frozen=True, slots=True)
class RingTimes:
    """Microseconds per record: the best of all batches, and the mean."""

    stage_commit: float
    claim: float
    emit_signal: float
    drain: float
    mean_stage_commit: float
    mean_claim: float
    mean_emit_signal: float
    mean_drain: float


def measure(records: int = 50_000, size: int = 600, batch: int = 64) -> RingTimes:
    """Move ``records`` of ``size`` bytes (in three parts) there and back in batches; return the times.

    ``batch`` x ``size`` must fit a ring of 256 KiB. Each outcome is signalled by itself. ValueError if it
    cannot fit.
    """
    if batch * (size + 64) > 256 * 1024:
        raise ValueError(f"{batch} records of {size} bytes don't fit the ring")
    master = MasterLink(1)
    child = ChildLink.attach(1, [os.dup(fd) for fd in master.child_fds()])
    try:
        rounds = [_one_batch(master, child, size, batch) for _ in range(max(1, records // batch))]
    finally:
        child.close()
        master.close()
    columns = [[each / batch / 1000 for each in column] for column in zip(*rounds, strict=True)]
    return RingTimes(*map(min, columns), *(sum(column) / len(column) for column in columns))


def _one_batch(master: MasterLink, child: ChildLink, size: int, batch: int) -> tuple[int, int, int, int]:
    """Return the nanoseconds that each of the four steps took for one batch."""
    parts = [b"h" * min(40, size), b"x" * max(0, size - 240), b"y" * max(0, min(200, size - 40))]
    clock = time.perf_counter_ns
    begin = clock()
    for _ in range(batch):
        master.stage(1, parts)
    master.commit()
    staged = clock()
    for _ in range(batch):
        child.claim()
    claimed = clock()
    for seq in range(batch):
        child.emit(2, seq, parts)
        child.signal()
    emitted = clock()
    drained = master.drain()
    end = clock()
    if len(drained) != batch:
        raise RuntimeError(f"{len(drained)} of {batch} records came back")
    master.release(1 << 62)
    return staged - begin, claimed - staged, emitted - claimed, end - emitted


if __name__ == "__main__":
    for step, microseconds in asdict(measure()).items():
        print(f"{step:18} {microseconds:6.2f} us a record")
