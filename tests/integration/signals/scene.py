"""A worker of the signals app, and what its tasks, handlers, receivers and requests have recorded."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.signals.signal_app import MAIN
from turbo import Turbo

READY = r"ready\.$"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the record."""

    what: str
    task_id: str | None
    pid: int
    details: dict[str, Any]


class Scene:
    """A broker, a store, a worker and its record."""

    def __init__(self, vhost: str, redis_db: str, directory: Path, receivers: str = "") -> None:
        self.directory = directory
        self._record = directory / f"record-{uuid.uuid4().hex[:8]}"
        self.client = Turbo("client", broker=vhost, backend=redis_db, set_as_current=False)
        self.env = {
            "SIGNALS_BROKER": vhost,
            "SIGNALS_BACKEND": redis_db,
            "SIGNALS_RECORD": str(self._record),
            "SIGNALS_RECEIVERS": receivers,
            "PYTHONWARNINGS": "default",
        }
        self.worker = WorkerProcess(
            "-A", "tests.integration.signals.signal_app", "-l", "info", "-c", "2", directory=directory, env=self.env
        )

    def send(self, name: str, *args: Any, **options: Any) -> str:
        """Send a task; return its id. ``options`` are those of ``send_task``."""
        return self.client.send_task(name, args, queue=MAIN, **options).id

    def record(self) -> list[Line]:
        """Return all lines so far."""
        if not self._record.exists():
            return []
        text = self._record.read_text()
        return [Line(*json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]

    def of(self, task_id: str) -> list[Line]:
        """Return the lines of one task."""
        return [line for line in self.record() if line.task_id == task_id]

    def names(self, task_id: str) -> list[str]:
        """Return the events of one task, in order."""
        return [line.what for line in self.of(task_id)]

    def wait(self, task_id: str, last: str, count: int = 1) -> list[Line]:
        """Wait until an event of a task was recorded this many times; return all its lines."""
        wait_until(f"{last} of {task_id}: {self.of(task_id)}", lambda: self.names(task_id).count(last) >= count, 60)
        return self.of(task_id)

    def wait_for(self, what: str, count: int = 1) -> list[Line]:
        """Wait until an event was recorded this many times, for any task."""
        wait_until(what, lambda: sum(line.what == what for line in self.record()) >= count, 60)
        return [line for line in self.record() if line.what == what]

    def state(self, task_id: str) -> Any:
        """Return the stored state and result of a task."""
        result = self.client.AsyncResult(task_id)
        return result.state, result.result
