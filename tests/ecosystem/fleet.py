"""A fleet of three workers, one of each kind, that runs a mixture of tasks which write down what they do."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from tests.integration.events.conftest import READY, Site

#: A worker of each kind: its node name. Exporters name a worker by what follows the @.
NODES = {"celery": "work@celery", "adopted": "work@adopted", "native": "work@native"}
OURS = ("adopted", "native")
#: What is sent to the queue of all workers, and to the one that each has for itself.
SHARED = {"give": 120, "fail": 60, "retry": 30}
OWN = {"give": 12, "fail": 7}
NAME, AGAIN = "evented.work", "evented.again"
QUEUE = "celery"


def own_queue(kind: str) -> str:
    """Return the queue that only the worker of this kind consumes from."""
    return f"only-{kind}"


class Run(NamedTuple):
    """A run of a task, as the task has written it down."""

    node: str
    queue: str
    how: str


class Fleet:
    """One broker, and three workers while ``working``."""

    def __init__(self, rabbitmq: RabbitMQ, vhost: str, redis_db: str, directory: Path) -> None:
        self._sites = {kind: Site(kind, rabbitmq, vhost, redis_db, directory) for kind in NODES}
        #: Its client sends the tasks.
        self.site = self._sites["native"]
        self.workers: dict[str, WorkerProcess] = {}
        self._record = directory / "record"
        self._runs: Counter[Run] = Counter()
        self.revoked = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(5)]

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Run the workers."""
        with contextlib.ExitStack() as stack:
            for kind, node in NODES.items():
                # What a grown window gives back to the broker is received twice, by whoever gets it then.
                window = ("--prefetch", "fixed") if kind in OURS else ()
                worker = self._started(kind, "-c", "2", "-Q", f"{QUEUE},{own_queue(kind)}", *window, node=node)
                self.workers[kind] = stack.enter_context(worker)
            for worker in self.workers.values():
                worker.wait_for_line(READY, 120)
            yield
        for site in self._sites.values():
            site.close()

    @contextlib.contextmanager
    def worker(self, kind: str, *options: str, node: str) -> Iterator[WorkerProcess]:
        """Run one more worker; yield it when it is ready."""
        with self._started(kind, *options, node=node) as worker:
            worker.wait_for_line(READY, 120)
            yield worker

    def _started(self, kind: str, *options: str, node: str) -> WorkerProcess:
        return self._sites[kind].worker("-E", *options, name=node, env={"EVENTED_RECORD": str(self._record)})

    def run_all(self) -> None:
        """Send every task, and wait until all have run."""
        site = self.site

        def all_know() -> bool:  # one whose connection is slow is ready before it hears commands
            answers = site.client.control.revoke(self.revoked, reply=True, timeout=10, limit=len(NODES))
            return len(answers) == len(NODES)

        wait_until("all have heard what is revoked", all_know, 90)
        for how, count in SHARED.items():
            for _ in range(count):
                site.send("again" if how == "retry" else "work", how)
        for kind in NODES:
            for how, count in OWN.items():
                for _ in range(count):
                    site.send("work", how, queue=own_queue(kind))
        for identifier in self.revoked:
            site.send("work", "never", task_id=identifier)
        total = sum(SHARED.values()) + SHARED["retry"] + len(NODES) * sum(OWN.values())
        wait_until("all ran", lambda: len(self._lines()) >= total, 200)
        self._runs = Counter(Run(*line.split(" ")) for line in self._lines())

    def _lines(self) -> list[str]:
        return self._record.read_text().splitlines() if self._record.exists() else []

    def ran(self, node: str, *hows: str, queue: str | None = None) -> int:
        """Return how many runs of a node ended in these ways (default: in any)."""
        return sum(
            count
            for run, count in self._runs.items()
            if run.node == node and (not hows or run.how in hows) and queue in (None, run.queue)
        )
