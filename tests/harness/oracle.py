"""Reads what the tasks of a test did from the file that they append to, and checks it against rules.

The rules are numbered I1 to I6 as in the reliability specification; each `check_*` raises AssertionError with the ids
that break the rule.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.harness.oracle_record import VARIABLE
from tests.harness.processes import PATIENCE, HarnessError, Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ

SHARED_MEMORY = Path("/dev/shm")
#: How the folders of oracles begin that are in shared memory; no worker left them.
ORACLES = "oracle-"
#: Seconds after the death of a master within which all its processes must have ended.
ORPHANS = 2.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One line of the oracle's file."""

    event: str
    id: str
    attempt: int
    pid: int
    mono_ns: int


class Oracle:
    """Reads the file that `oracle_record.record` appends to; give `env` to the worker under test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._traces: list[Trace] = []
        self._offset = 0

    @property
    def env(self) -> dict[str, str]:
        """The environment variable with the file's path, for the worker under test."""
        return {VARIABLE: str(self.path)}

    def traces(self, event: str | None = None) -> list[Trace]:
        """Return all lines so far, in order; with `event`, only those of that event."""
        with self.path.open("rb") as source:
            source.seek(self._offset)
            data = source.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.decode().splitlines():
            name, identifier, attempt, pid, mono_ns = line.split("|")
            self._traces.append(Trace(name, identifier, int(attempt), int(pid), int(mono_ns)))
        return [trace for trace in self._traces if event is None or trace.event == event]

    def ids(self, event: str) -> list[str]:
        """Return the ids of all lines of `event`, with repetitions."""
        return [trace.id for trace in self.traces(event)]

    def wait_count(self, event: str, count: int, timeout: float = PATIENCE) -> list[Trace]:
        """Wait until there are `count` lines of `event`; return all of them."""
        wait_until(f"{count} x {event} in the oracle", lambda: len(self.traces(event)) >= count, timeout)
        return self.traces(event)

    def wait_ids(self, event: str, ids: Iterable[str], timeout: float = PATIENCE) -> None:
        """Wait until each of `ids` has a line of `event`. Raises AssertionError with the missing ids."""
        wanted = set(ids)
        missing = set(wanted)

        def seen() -> bool:
            missing.clear()
            missing.update(wanted - set(self.ids(event)))
            return not missing

        try:
            wait_until(f"{event} of {len(wanted)} ids", seen, timeout)
        except RuntimeError as error:
            raise AssertionError(f"{error}; {len(missing)} missing, such as {sorted(missing)[:5]}") from None

    # -- the rules ------------------------------------------------------------------------------------

    def check_nothing_vanished(self, confirmed: Iterable[str], *, accounted: Iterable[str] = ()) -> None:
        """I1: every confirmed id ended, or is in `accounted` (a failure result, a dead letter)."""
        lost = set(confirmed) - set(self.ids("end")) - set(accounted)
        assert not lost, f"I1: {len(lost)} tasks vanished, such as {sorted(lost)[:5]}"

    def check_started_once(self, ids: Iterable[str] | None = None) -> None:
        """I2: no attempt of an early-acknowledged task (of `ids`, if given) started twice."""
        only = None if ids is None else set(ids)
        counts = Counter((t.id, t.attempt) for t in self.traces("start") if only is None or t.id in only)
        twice = sorted(key for key, count in counts.items() if count > 1)
        assert not twice, f"I2: {len(twice)} tasks started twice, such as {twice[:5]}"

    def check_repeats_only(self, faulted: Iterable[str]) -> None:
        """I3: late-acknowledged tasks that started twice are in `faulted`, the tasks in flight at a fault."""
        counts = Counter((t.id, t.attempt) for t in self.traces("start"))
        surprising = {identifier for (identifier, _), count in counts.items() if count > 1} - set(faulted)
        assert not surprising, f"I3: {len(surprising)} repeated without a fault: {sorted(surprising)[:5]}"

    def check_no_overlap(self, *, but: str = "\0") -> None:
        """I4: no id runs twice at the same time (a run without an end counts as a single moment).

        Ids that begin with ``but`` are excluded, for messages that may have been published twice.
        """
        bad = [name for name, spans in self._spans().items() if _overlap(spans) and not name.startswith(but)]
        assert not bad, f"I4: {len(bad)} ids overlapped themselves, such as {sorted(bad)[:5]}"

    def _spans(self) -> dict[str, list[tuple[int, int]]]:
        running: dict[tuple[str, int], int] = {}
        spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for trace in self.traces():
            key = (trace.id, trace.pid)
            if trace.event == "start":
                running[key] = trace.mono_ns
            elif trace.event == "end" and key in running:
                spans[trace.id].append((running.pop(key), trace.mono_ns))
        for (identifier, _), began in running.items():
            spans[identifier].append((began, began))
        return spans


def _overlap(spans: list[tuple[int, int]]) -> bool:
    ordered = sorted(spans)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(ordered))


def check_queues_settled(
    rabbitmq: RabbitMQ,
    vhost: str,
    queues: Iterable[str],
    *,
    consumers: int | None = None,
    timeout: float = PATIENCE,
) -> None:
    """I5: every queue becomes empty, without unacknowledged messages and with the expected number of consumers."""
    for name in queues:
        rabbitmq.wait_queue(name, vhost, ready=0, unacked=0, consumers=consumers, timeout=timeout)


def named_memory() -> set[str]:
    """Return the files in /dev/shm with turbo in their names, except those of benchmarks."""
    return {str(path) for path in SHARED_MEMORY.glob("*turbo*") if not path.name.startswith("turbo-bench-")}


def held_memory(process: psutil.Process) -> set[str]:
    """Return the files in /dev/shm that a process has open or mapped now, whatever their names."""
    try:
        paths = {each.path for each in process.open_files()} | {each.path for each in process.memory_maps()}
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return set()
    return {
        path
        for path in paths
        if path.startswith(f"{SHARED_MEMORY}/") and not path.startswith(f"{SHARED_MEMORY}/{ORACLES}")
    }


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass(slots=True)
class Leftovers:
    """I6: records processes and shared memory, so that a later `check` finds what the test left behind.

    In /dev/shm only files with turbo's name or of watched processes count, since other programs use it too.
    """

    named: set[str] = field(default_factory=named_memory)
    held: set[str] = field(default_factory=set)
    watched: list[psutil.Process] = field(default_factory=list)

    def watch(self, processes: Callable[[], list[psutil.Process]] | list[psutil.Process]) -> None:
        """Add processes that must have ended at `check`, with the shared memory that they hold now."""
        new = processes() if callable(processes) else processes
        self.watched.extend(new)
        self.held.update(*map(held_memory, new))

    def check(self, timeout: float = PATIENCE) -> None:
        """Check that all watched processes end and that nothing of theirs is left in /dev/shm."""
        wait_until(f"{len(self.watched)} processes are gone", lambda: all(map(_is_zombie, self._alive())), timeout)
        self._check_memory(timeout)

    def check_orphans(self, died: Stopwatch) -> None:
        """Like `check`, after a master's death: no process outlives it by more than ``ORPHANS`` seconds.

        ``died`` is a stopwatch that was started when the master died.
        """

        def gone() -> bool:
            seconds = died.seconds
            # A zombie has ended; the process that adopts orphans on this machine has not reaped it yet.
            left = [process for process in self._alive() if not _is_zombie(process)]
            assert not left or seconds <= ORPHANS, f"{left} live {seconds:.1f} s after their master"
            return not left

        wait_until(f"{len(self.watched)} processes are gone", gone, PATIENCE)
        self._check_memory(PATIENCE)

    def _alive(self) -> list[psutil.Process]:
        return [process for process in self.watched if process.is_running()]

    def _check_memory(self, timeout: float) -> None:
        def left() -> list[str]:
            return sorted((named_memory() - self.named) | {path for path in self.held if Path(path).exists()})

        try:
            # A semaphore of another test's worker has a name for a moment while it is created.
            wait_until("/dev/shm is as before", lambda: not left(), timeout)
        except HarnessError:
            raise AssertionError(f"I6: left in /dev/shm: {left()}") from None
