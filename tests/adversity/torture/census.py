"""Checks a torture run against the oracle's file: which tasks ran, how often, and which kill explains deviations.

Ids are ``e-N`` (acknowledged early) and ``l-N`` (late). Counts are kept a byte an id, so that millions fit.
"""

from __future__ import annotations

import os
import signal
import time
from bisect import bisect_left
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Kills:
    """Records when each process was killed, in CLOCK_MONOTONIC nanoseconds."""

    times: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    #: The latest victims, which may not have been reaped yet.
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=8))

    def kill(self, pid: int) -> None:
        """Kill ``pid`` now if it exists, and record the time."""
        self.recent.append(pid)
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            at = time.monotonic_ns()
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)
        self.times[pid].append(at)
        self.count += 1

    def life(self, pid: int, at_ns: int) -> int:
        """Return how many lives of this pid were killed before ``at_ns``, which identifies the life at that time.

        An act between the record of the kill and the signal's arrival would be counted to the next life. The pid is
        reused only after a whole turn of the pid counter, so a second is allowed.
        """
        return bisect_left(self.times.get(pid, ()), at_ns - 1_000_000_000)

    def ended_by_kill(self, pid: int, life: int) -> bool:
        """Return whether the process with ``pid`` at that time ended by one of these kills."""
        return life < len(self.times.get(pid, ()))


class Census:
    """Reads the oracle's file once and counts."""

    def __init__(self, path: Path, each: int, kills: Kills) -> None:
        """``each`` is the number of ids of each kind that were sent."""
        self.starts = {"e": bytearray(each), "l": bytearray(each)}
        self.ends = {"e": bytearray(each), "l": bytearray(each)}
        self._kills = kills
        #: (pid, life) -> the last id that it started.
        self.last: dict[tuple[int, int], str] = {}
        #: id -> (pid, life) of every start, for ids that started more than once.
        self.repeats: dict[str, list[tuple[int, int]]] = {}
        firsts: dict[str, tuple[int, int]] = {}
        with path.open() as lines:
            for line in lines:
                event, identifier, _, pid_text, at_text = line.split("|")
                kind, number = identifier[0], int(identifier[2:])
                if event == "end":
                    self.ends[kind][number] += 1
                    continue
                pid = int(pid_text)
                who = (pid, kills.life(pid, int(at_text)))
                self.last[who] = identifier
                self.starts[kind][number] += 1
                if self.starts[kind][number] > 1:
                    self.repeats.setdefault(identifier, []).append(who)
        if self.repeats:
            self._find_firsts(path, firsts)

    def _find_firsts(self, path: Path, firsts: dict[str, tuple[int, int]]) -> None:
        """Second pass: where the ids that repeat were started the first time."""
        with path.open() as lines:
            for line in lines:
                event, identifier, _, pid_text, at_text = line.split("|")
                if event == "start" and identifier in self.repeats and identifier not in firsts:
                    pid = int(pid_text)
                    firsts[identifier] = (pid, self._kills.life(pid, int(at_text)))
        for identifier, first in firsts.items():
            self.repeats[identifier].insert(0, first)

    def started_twice(self, kind: str) -> list[str]:
        """Return the ids of a kind that started more than once."""
        return [identifier for identifier in self.repeats if identifier[0] == kind]

    def unexplained(self) -> list[str]:
        """Return the repeated ids with an earlier start that was not the last act of a killed child."""
        return [
            identifier
            for identifier, starts in self.repeats.items()
            if not all(self.last[who] == identifier and self._kills.ended_by_kill(*who) for who in starts[:-1])
        ]

    def without_end(self, kind: str) -> list[str]:
        """Return the ids of a kind that have no end."""
        return [f"{kind}-{number}" for number, count in enumerate(self.ends[kind]) if not count]

    def cut(self, kind: str) -> list[str]:
        """Return the ids of a kind that started and have no end."""
        return [identifier for identifier in self.without_end(kind) if self.starts[kind][int(identifier[2:])]]
