"""What a tree of processes uses: processor time and memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.processes import family


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor seconds (user and system) used so far: by the first process, and by the others."""

    root: float
    rest: float

    @property
    def total(self) -> float:
        """Both."""
        return self.root + self.rest

    def since(self, before: Cpu) -> Cpu:
        """The difference."""
        return Cpu(self.root - before.root, self.rest - before.rest)


def process_seconds(pid: int) -> float:
    """Processor time of a living process with all its threads, to the nanosecond.

    The kernel's clock of another process: ``MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)`` in Linux's
    ``posix-timers.h``. ``/proc/PID/stat`` counts in hundredths of a second, too coarse for short rounds.
    """
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


def cpu(pid: int) -> Cpu:
    """What process ``pid``, its descendants, and those of them that have ended and been reaped have used."""
    root = rest = 0.0
    for member in family(pid):
        try:
            own = process_seconds(member.pid)
            reaped = member.cpu_times()
        except (OSError, psutil.NoSuchProcess):
            continue  # it ended just now: its time is in its parent's sum from here on
        rest += reaped.children_user + reaped.children_system
        if member.pid == pid:
            root += own
        else:
            rest += own
    return Cpu(root, rest)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process in bytes.

    ``pss`` divides shared pages among those that share them, ``uss`` leaves them out.
    """

    pss: int
    uss: int


def pss(pid: int) -> int:
    """Proportional set size of the tree in bytes."""
    return sum(each.pss for each in memory(pid).values())


def memory(pid: int) -> dict[int, Memory]:
    """What process ``pid`` and each of its descendants use, the process itself first."""
    found = {}
    for member in family(pid):
        try:
            text = Path(f"/proc/{member.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
        sizes = {words[0]: int(words[1]) * 1024 for line in text.splitlines()[1:] if (words := line.split())}
        own = sizes["Private_Clean:"] + sizes["Private_Dirty:"]
        found[member.pid] = Memory(sizes["Pss:"], own)
    return found
