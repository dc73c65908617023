"""Who is measured: how each worker is started, what it consumes, and how its messages are made.

A contender is a peer with a concurrency. All of them run with their default settings.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import environments
from bench.processes import BenchError

if TYPE_CHECKING:
    from bench.amqp import Table

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "apps"

PEERS = ("turbo", "turbo-old", "celery", "celery-threads", "dramatiq", "null", "sketch")
#: They drain several times faster and get more tasks, so that a round lasts long enough to be measured.
FAST = frozenset({"turbo", "turbo-old", "dramatiq", "null", "sketch"})


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings that the app gets beside its defaults; for turbo's and Celery's workers, and the null consumer's window.

    ``multiplier`` is ``worker_prefetch_multiplier``, None for the default.
    """

    multiplier: int | None = None
    acks_late: bool = False

    def __str__(self) -> str:
        words = [] if self.multiplier is None else [f"multiplier{self.multiplier}"]
        return "-".join([*words, *(["late"] if self.acks_late else [])])

    def environment(self, concurrency: int) -> dict[str, str]:
        """The variables for the app, and for the null consumer's window."""
        env = {"BENCH_ACKS_LATE": "1"} if self.acks_late else {}
        if self.multiplier is not None:
            env |= {"BENCH_MULTIPLIER": str(self.multiplier), "BENCH_PREFETCH": str(self.multiplier * concurrency)}
        return env


@dataclass(frozen=True, slots=True)
class Contender:
    """One worker under test. ``concurrency`` counts child processes (threads for celery-threads).

    ``framework`` is what the app of turbo's worker is written with: turbo or celery. ``turbo-old`` is another turbo,
    that of ``$BENCH_OLD_TURBO_PYTHON``.
    """

    peer: str
    concurrency: int
    label: str
    extra: tuple[str, ...] = ()
    framework: str = "turbo"
    settings: AppSettings = AppSettings()

    @property
    def uses_celery_messages(self) -> bool:
        """Whether its messages are Celery's."""
        return self.peer != "dramatiq"

    @property
    def queue(self) -> str:
        """Its queue's name."""
        return "bench" if self.uses_celery_messages else "bench_dramatiq"

    def queue_arguments(self, queue_type: str) -> Table:
        """The arguments with which the worker itself declares the queue."""
        if self.uses_celery_messages:
            return {"x-queue-type": "quorum"} if queue_type == "quorum" else {}
        if queue_type == "quorum":
            raise BenchError("dramatiq declares its queues as classic ones")
        return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{self.queue}.XQ"}

    def command(self) -> list[str]:
        """The command that starts the worker."""
        number = str(self.concurrency)
        if self.peer in ("turbo", "turbo-old"):
            python = environments.turbo_python() if self.peer == "turbo" else environments.old_turbo_python()
            start = [python, "-m", "turbo", "worker", "-A", "bench_tasks", "-c", number]
        elif self.peer in ("celery", "celery-threads"):
            start = [environments.python_of("celery"), "-m", "celery", "-A", "bench_tasks", "worker", "-c", number]
            start += ["-P", "threads"] if self.peer == "celery-threads" else []
        elif self.peer == "dramatiq":
            start = [environments.python_of("dramatiq"), "-m", "dramatiq", "dramatiq_tasks", "--processes", number]
        elif self.peer == "null":
            start = [sys.executable, "-m", "bench.apps.null_consumer"]
        else:
            start = [sys.executable, "-m", "bench.apps.sketch_worker", number]
        return [str(part) for part in (*start, *self.extra)]

    def environment(self, queue_type: str) -> dict[str, str]:
        """What the worker's environment has beside the servers' addresses."""
        ours = self.peer in ("turbo", "null", "sketch")
        env = {
            "BENCH_FRAMEWORK": self.framework if self.peer.startswith("turbo") else "celery",
            "BENCH_QUEUE": self.queue,
            "BENCH_QUEUE_TYPE": queue_type,
            # the window from which a classic queue no longer gets faster, and that of a quorum queue
            "BENCH_PREFETCH": "512" if queue_type == "quorum" else "256",
            "PYTHONPATH": f"{APPS}:{ROOT}" if ours else str(APPS),
        }
        return env | self.settings.environment(self.concurrency)


def contender(
    name: str,
    concurrency: int,
    extra: tuple[str, ...] = (),
    framework: str = "turbo",
    settings: AppSettings = AppSettings(),
) -> Contender:
    """A contender of this name; its label is the name."""
    if name not in PEERS:
        raise BenchError(f"unknown peer {name!r}: there are {', '.join(PEERS)}")
    return Contender(name, concurrency, name, extra, framework, settings)


def prepare(names: list[str], framework: str = "turbo") -> dict[str, str]:
    """Build what the peers need, before any clock runs; the versions of each.

    Raises BenchError when turbo is to run a Celery app and its environment has another Celery than the peer's.
    """
    versions: dict[str, str] = {}
    if framework == "celery":
        environments.check_same("celery")
    for name in names:
        peer = "celery" if name.startswith("celery") else name
        if peer in environments.PINS:
            versions[peer] = environments.installed(peer)
    # every message but dramatiq's is captured from real Celery
    versions.setdefault("celery", environments.installed("celery"))
    return versions
