"""Who is measured: how each worker is started, what it consumes, and how its messages are made.

A contender is a peer with a concurrency, such as ``turbo``, and what follows its name: ``turbo+events``. Beside what is
asked for, all of them run with their default settings.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import environments
from bench.processes import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.amqp import Table

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "apps"

PEERS = ("turbo", "turbo-old", "turbo-compiled", "celery", "celery-threads", "dramatiq", "taskiq", "null", "sketch")
#: They drain several times faster and get more tasks, so that a round lasts long enough to be measured.
FAST = frozenset({"turbo", "turbo-old", "turbo-compiled", "dramatiq", "null", "sketch"})
#: They run no task.
IDLE = frozenset({"null", "sketch"})
#: Peers whose messages are not Celery's.
_OTHER_MESSAGES = {"dramatiq": "dramatiq", "taskiq": "taskiq"}


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings that the app gets beside its defaults; for turbo's and Celery's workers, and the null consumer's window.

    ``multiplier`` is ``worker_prefetch_multiplier``, None for the default. ``reject_lost`` is
    ``task_reject_on_worker_lost``.
    """

    multiplier: int | None = None
    acks_late: bool = False
    reject_lost: bool = False

    def __str__(self) -> str:
        words = [] if self.multiplier is None else [f"multiplier{self.multiplier}"]
        return "-".join([*words, *(["late"] if self.acks_late else []), *(["requeue"] if self.reject_lost else [])])

    def environment(self, concurrency: int) -> dict[str, str]:
        """The variables for the app, and for the null consumer's window."""
        env = {"BENCH_ACKS_LATE": "1"} if self.acks_late else {}
        if self.reject_lost:
            env["BENCH_REJECT_LOST"] = "1"
        if self.multiplier is not None:
            env |= {"BENCH_MULTIPLIER": str(self.multiplier), "BENCH_PREFETCH": str(self.multiplier * concurrency)}
        return env


@dataclass(frozen=True, slots=True)
class Contender:
    """One worker under test. ``concurrency`` counts child processes, threads or coroutines, as ``pool`` says.

    ``framework`` is what the app of turbo's worker is written with: turbo or celery. ``turbo-old`` is an earlier turbo,
    ``turbo-compiled`` this one compiled.
    """

    peer: str
    concurrency: int
    label: str
    extra: tuple[str, ...] = ()
    framework: str = "turbo"
    settings: AppSettings = field(default_factory=AppSettings)
    pool: str = "prefork"

    @property
    def messages(self) -> str:
        """Whose messages it consumes: celery, dramatiq or taskiq."""
        return _OTHER_MESSAGES.get(self.peer, "celery")

    @property
    def queue(self) -> str:
        """Its queue's name."""
        return "bench" if self.messages == "celery" else f"bench_{self.messages}"

    def queue_arguments(self, queue_type: str) -> Table:
        """The arguments with which the worker itself declares the queue; dramatiq knows classic queues alone."""
        if self.messages == "celery":
            return {"x-queue-type": "quorum"} if queue_type == "quorum" else {}
        if self.messages == "taskiq":
            dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "taskiq.dead_letter"}
            return {**dead, "x-queue-type": queue_type}
        return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{self.queue}.XQ"}

    def command(self) -> list[str]:
        """The command that starts the worker."""
        return [str(part) for part in (*_COMMANDS[self.peer](self), *self.extra)]

    def environment(self, queue_type: str) -> dict[str, str]:
        """What the worker's environment has beside the servers' addresses."""
        ours = self.peer in ("turbo", "null", "sketch")
        env = {
            "BENCH_FRAMEWORK": self.framework if self.peer.startswith("turbo") else "celery",
            "BENCH_QUEUE": self.queue,
            "BENCH_QUEUE_TYPE": queue_type,
            # the window from which a classic queue no longer gets faster, and that of a quorum queue
            "BENCH_PREFETCH": "512" if queue_type == "quorum" else "256",
            "BENCH_SLOTS": str(self.concurrency),
            "PYTHONPATH": f"{APPS}:{ROOT}" if ours else str(APPS),
        }
        return env | self.settings.environment(self.concurrency)


def _turbo(each: Contender) -> list[str | Path]:
    python = {
        "turbo": environments.turbo_python,
        "turbo-old": environments.old_turbo_python,
        "turbo-compiled": environments.compiled_turbo_python,
    }[each.peer]()
    number = str(each.concurrency)
    pools = {
        "prefork": ["-c", number],
        "threads": ["-c", number, "-P", "threads"],
        "coroutines": ["-c", "1", "--async-concurrency", number],
    }
    return [python, "-m", "turbo", "worker", "-A", "bench_tasks", *pools[each.pool]]


def _celery(each: Contender) -> list[str | Path]:
    threads = ["-P", "threads"] if each.pool == "threads" else []
    start = [environments.python_of("celery"), "-m", "celery", "-A", "bench_tasks", "worker"]
    return [*start, "-c", str(each.concurrency), *threads]


def _dramatiq(each: Contender) -> list[str | Path]:
    number = str(each.concurrency)
    pool = ["--processes", "1", "--threads", number] if each.pool == "threads" else ["--processes", number]
    return [environments.python_of("dramatiq"), "-m", "dramatiq", "dramatiq_tasks", *pool]


def _taskiq(each: Contender) -> list[str | Path]:
    number = str(each.concurrency)
    pool = ["--workers", "1", "--max-async-tasks", number] if each.pool == "coroutines" else ["--workers", number]
    return [environments.python_of("taskiq"), "-m", "taskiq", "worker", "taskiq_tasks:broker", *pool]


_COMMANDS: dict[str, Callable[[Contender], list[str | Path]]] = {
    "turbo": _turbo,
    "turbo-old": _turbo,
    "turbo-compiled": _turbo,
    "celery": _celery,
    "celery-threads": _celery,
    "dramatiq": _dramatiq,
    "taskiq": _taskiq,
    "null": lambda _: [sys.executable, "-m", "bench.apps.null_consumer"],
    "sketch": lambda each: [sys.executable, "-m", "bench.apps.sketch_worker", str(each.concurrency)],
}


def _with_settings(each: Contender, **changed: bool) -> Contender:
    return replace(each, settings=replace(each.settings, **changed))


#: What may follow a peer's name after a plus sign -> how it reads in the label, and what it changes.
WAYS: dict[str, tuple[str, Callable[[Contender], Contender]]] = {
    "adopted": ("adopted", lambda each: replace(each, framework="celery")),
    "events": ("-E", lambda each: replace(each, extra=(*each.extra, "-E"))),
    "adaptive": ("adaptive", lambda each: replace(each, extra=(*each.extra, "--prefetch", "adaptive"))),
    "threads": ("threads", lambda each: replace(each, pool="threads")),
    "coroutines": ("coroutines", lambda each: replace(each, pool="coroutines")),
    "requeue": ("requeue", lambda each: _with_settings(each, acks_late=True, reject_lost=True)),
}
#: The peers that a way is for.
_TURBOS = frozenset({"turbo", "turbo-old", "turbo-compiled"})
_WAYS_OF = {
    "adopted": _TURBOS,
    "events": _TURBOS | {"celery"},
    "adaptive": _TURBOS,
    "threads": _TURBOS | {"celery", "dramatiq"},
    "coroutines": _TURBOS | {"taskiq"},
    "requeue": _TURBOS | {"celery"},
}


def contender(
    name: str,
    concurrency: int,
    extra: tuple[str, ...] = (),
    framework: str = "turbo",
    settings: AppSettings | None = None,
) -> Contender:
    """A contender of this name, such as ``turbo`` or ``turbo+events``; its label is the name in words."""
    peer, *ways = name.split("+")
    if peer not in PEERS:
        raise BenchError(f"unknown peer {peer!r}: there are {', '.join(PEERS)}")
    found = Contender(peer, concurrency, peer, extra, framework, settings or AppSettings())
    if peer == "celery-threads":
        found = replace(found, pool="threads")
    for way in ways:
        if peer not in _WAYS_OF.get(way, ()):
            raise BenchError(f"{peer} has no way {way!r}: there are {', '.join(WAYS)}, each for some peers")
        words, change = WAYS[way]
        found = change(replace(found, label=f"{found.label} {words}"))
    return found


def prepare(names: list[str], framework: str = "turbo") -> dict[str, str]:
    """Build what the peers need, before any clock runs; the versions of each.

    Raises BenchError when turbo is to run a Celery app and its environment has another Celery than the peer's.
    """
    versions: dict[str, str] = {}
    if framework == "celery" or any("+adopted" in name for name in names):
        environments.check_same("celery")
    for name in names:
        peer = name.partition("+")[0]
        peer = "celery" if peer.startswith("celery") else peer
        if peer in environments.PINS:
            versions[peer] = environments.installed(peer)
        elif peer == "turbo-old":
            environments.old_turbo_python()
            versions[peer] = environments.old_turbo_commit()
        elif peer == "turbo-compiled":
            environments.compiled_turbo_python()
            versions[peer] = environments.compiled_turbo_commit()
    # every message but dramatiq's and taskiq's is captured from real Celery
    versions.setdefault("celery", environments.installed("celery"))
    return versions
