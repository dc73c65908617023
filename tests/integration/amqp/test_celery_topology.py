"""Real Celery and turbo declare the same things on one virtual host, in either order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.integration.amqp.collector import Collector, linked, run
from turbo.amqp.topology import Queue, task_queue

pytestmark = pytest.mark.row("WP25")

APP = """
from celery import Celery
app = Celery("there", broker={url!r})
app.conf.task_default_queue_type = {queue_type!r}
app.conf.task_queue_max_priority = {max_priority!r}

@app.task
def add(x, y):
    return x + y
"""


@contextmanager
def celery_worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real `celery worker`, solo, in the folder of its app."""
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "there", "worker", "-P", "solo", "-n", "t@%h",
             "--without-gossip", "--without-mingle", "-l", "info"],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(folder)},
        )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def send(folder: Path, *args: int) -> None:
    code = f"import there; there.add.delay({args[0]}, {args[1]})"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=90)


CASES = [
    pytest.param(None, None, task_queue("celery"), id="default"),
    pytest.param("quorum", None, task_queue("celery", queue_type="quorum"), id="quorum"),
    pytest.param(None, 10, task_queue("celery", max_priority=10), id="priorities"),
]


@pytest.mark.parametrize("first", ["celery", "turbo"])
@pytest.mark.parametrize("queue_type, max_priority, queue", CASES)
def test_no_precondition_fails(
    first: str,
    queue_type: str | None,
    max_priority: int | None,
    queue: Queue,
    vhost: str,
    rabbitmq: RabbitMQ,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "there.py").write_text(
        APP.format(url=vhost, queue_type=queue_type or "classic", max_priority=max_priority)
    )

    async def turbo_consumes() -> None:
        sink = Collector()
        async with linked(vhost, [queue], sink) as link:
            await asyncio.to_thread(send, tmp_path, 2, 2)
            await sink.until(lambda: len(sink.bodies) == 1, "Celery's message")
            assert b"[[2, 2]" in sink.bodies[0]
            assert link.epoch == 1

    def celery_consumes() -> None:
        with celery_worker(tmp_path) as process:
            log = tmp_path / "worker.log"

            def done() -> bool:
                return "succeeded" in log.read_text()

            send(tmp_path, 3, 4)
            for _ in range(900):
                if done() or process.poll() is not None:
                    break
                signal.sigtimedwait([], 0.1)
            assert done(), log.read_text()[-3000:]

    if first == "celery":
        celery_consumes()
        run(turbo_consumes())
    else:
        run(turbo_consumes())
        celery_consumes()
    assert not [record for record in caplog.records if record.name == "turbo.amqp.topology"]
