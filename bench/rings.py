"""The rings alone: claim, copy, report, with no broker and no task.

A forked child claims records, copies them out, and reports each with as many bytes; this process stages them and
drains the reports. ``batch`` keeps a window of records on their way; ``single`` sends one and waits for its
report, which is what a sleeping child and a sleeping master cost.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from bench.meters import process_seconds
from bench.processes import BenchError
from turbo.ring.link import ChildLink, MasterLink

if TYPE_CHECKING:
    from bench.stage import Metrics

_KIND = 1


def rings(records: int, size: int) -> Metrics:
    """One round, microseconds a record: time passed, and processor time of either side."""
    batch = _round(records, size, window=64)
    single = _round(max(records // 10, 1), size, window=1)
    return {
        **{f"batch_{name}": value for name, value in batch.items()},
        **{f"single_{name}": value for name, value in single.items()},
    }


def _round(records: int, size: int, *, window: int) -> Metrics:
    link = MasterLink(1)
    lifeline, ours = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _child(link.child_fds(), lifeline)
    os.close(lifeline)
    link.close_child_fds()
    try:
        _pass(link, min(records, 1000), size, window)  # warm-up
        child_before, own_before, begun = process_seconds(child), time.process_time(), time.perf_counter()
        _pass(link, records, size, window)
        passed = time.perf_counter() - begun
        own, theirs = time.process_time() - own_before, process_seconds(child) - child_before
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        link.close()
    return {
        "us": passed / records * 1e6,
        "master_cpu_us": own / records * 1e6,
        "child_cpu_us": theirs / records * 1e6,
    }


def _pass(link: MasterLink, records: int, size: int, window: int) -> None:
    payload = os.urandom(size)
    staged = drained = last = 0
    poll = select.poll()
    poll.register(link.outcome_fd, select.POLLIN)
    while drained < records:
        before = staged
        while staged < records and staged - drained < window and link.stage(_KIND, (payload,)) is not None:
            staged += 1
        if staged > before:
            link.commit()
        if not poll.poll(5000):
            raise BenchError(f"the child reported {drained} of {records} records and stopped")
        for _, seq, copied in link.drain():
            drained += 1
            last = seq
            if len(copied) != size:
                raise BenchError(f"a record of {size} bytes came back with {len(copied)}")
        link.release(last)


def _child(fds: tuple[int, ...], lifeline: int) -> None:
    link = ChildLink.attach(1, fds, lifeline_fd=lifeline)
    claim, emit, send = link.claim, link.emit, link.signal
    while True:
        record = claim()
        if record is None:
            link.wait()
            continue
        kind, seq, payload = record
        emit(kind, seq, (payload,))
        send()
