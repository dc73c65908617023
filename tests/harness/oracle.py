"""What the tasks of a test really did, read back from the file they append to, and the rules it must obey.

The rules are numbered I1 to I6 as in the reliability specification; each `check_*` raises AssertionError
with the ids that break it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.harness.oracle_record import VARIABLE
from tests.harness.processes import HarnessError, Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ

SHARED_MEMORY = Path("/dev/shm")
#: How the folders of oracles begin that are in shared memory; no worker left them.
ORACLES = "oracle-"
#: Seconds within which everybody is gone whose master was killed.
ORPHANS = 2.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One line of the oracle."""

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
        """The environment that makes tasks write here."""
        return {VARIABLE: str(self.path)}

    def traces(self, event: str | None = None) -> list[Trace]:
        """Every line so far, in the order written; only those of `event` if given."""
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
        """The ids of every line of `event`, repeats included."""
        return [trace.id for trace in self.traces(event)]

    def wait_count(self, event: str, count: int, timeout: float = 30) -> list[Trace]:
        """Wait until there are `count` lines of `event`; all of them."""
        wait_until(f"{count} x {event} in the oracle", lambda: len(self.traces(event)) >= count, timeout)
        return self.traces(event)

    def wait_ids(self, event: str, ids: Iterable[str], timeout: float = 30) -> None:
        """Wait until each of `ids` has a line of `event`; the error counts and names what is missing."""
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
        """I1: every confirmed id ended, or is accounted for elsewhere (a failure result, a dead letter)."""
        lost = set(confirmed) - set(self.ids("end")) - set(accounted)
        assert not lost, f"I1: {len(lost)} tasks vanished, such as {sorted(lost)[:5]}"

    def check_started_once(self, ids: Iterable[str] | None = None) -> None:
        """I2: no attempt of (these) early-acknowledged tasks started twice."""
        only = None if ids is None else set(ids)
        counts = Counter((t.id, t.attempt) for t in self.traces("start") if only is None or t.id in only)
        twice = sorted(key for key, count in counts.items() if count > 1)
        assert not twice, f"I2: {len(twice)} tasks started twice, such as {twice[:5]}"

    def check_repeats_only(self, faulted: Iterable[str]) -> None:
        """I3: late-acknowledged tasks that started twice are among those in flight at a fault."""
        counts = Counter((t.id, t.attempt) for t in self.traces("start"))
        surprising = {identifier for (identifier, _), count in counts.items() if count > 1} - set(faulted)
        assert not surprising, f"I3: {len(surprising)} repeated without a fault: {sorted(surprising)[:5]}"

    def check_no_overlap(self, *, but: str = "\0") -> None:
        """I4: no id runs twice at the same time (a run that never ended counts until its process's next).

        Ids that begin with ``but`` are left out: those of messages that may have been published twice.
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
    timeout: float = 10,
) -> None:
    """I5: every queue reaches nothing ready, nothing unacknowledged and the expected consumers."""
    for name in queues:
        rabbitmq.wait_queue(name, vhost, ready=0, unacked=0, consumers=consumers, timeout=timeout)


def named_memory() -> set[str]:
    """Files in /dev/shm whose names say that they are turbo's; a benchmark beside the tests removes its own."""
    return {str(path) for path in SHARED_MEMORY.glob("*turbo*") if not path.name.startswith("turbo-bench-")}


def held_memory(process: psutil.Process) -> set[str]:
    """Files in /dev/shm that a process has open or mapped now: its own, whatever their names."""
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
    """I6: what exists now, so that a later `check` can say what the test left behind.

    In /dev/shm only what has turbo's name or was held by a watched process counts: other programs use it too.
    """

    named: set[str] = field(default_factory=named_memory)
    held: set[str] = field(default_factory=set)
    watched: list[psutil.Process] = field(default_factory=list)

    def watch(self, processes: Callable[[], list[psutil.Process]] | list[psutil.Process]) -> None:
        """Note processes that must be gone at `check`, and the shared memory that they hold."""
        new = processes() if callable(processes) else processes
        self.watched.extend(new)
        self.held.update(*map(held_memory, new))

    def check(self, timeout: float = 10) -> None:
        """No watched process lives (nor is a zombie of ours) and /dev/shm has nothing of theirs."""
        wait_until(f"{len(self.watched)} processes are gone", lambda: all(map(_is_zombie, self._alive())), timeout)
        self._check_memory()

    def check_orphans(self, died: Stopwatch) -> None:
        """The same after a master's death, at which ``died`` was made: nobody outlives it by more than ``ORPHANS``."""

        def gone() -> bool:
            seconds = died.seconds
            # A zombie has ended; it waits for whoever takes in orphans on this machine.
            left = [process for process in self._alive() if not _is_zombie(process)]
            assert not left or seconds <= ORPHANS, f"{left} live {seconds:.1f} s after their master"
            return not left

        wait_until(f"{len(self.watched)} processes are gone", gone, 30)
        self._check_memory()

    def _alive(self) -> list[psutil.Process]:
        return [process for process in self.watched if process.is_running()]

    def _check_memory(self) -> None:
        def left() -> list[str]:
            return sorted((named_memory() - self.named) | {path for path in self.held if Path(path).exists()})

        try:
            # A semaphore has a name for the moment in which some other test's worker makes it.
            wait_until("/dev/shm is as before", lambda: not left(), 2)
        except HarnessError:
            raise AssertionError(f"I6: left in /dev/shm: {left()}") from None
