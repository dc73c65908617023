"""Messages over the size that the broker allows fail with the size and the limit; nothing is tried for ever."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo import Turbo
from turbo.exceptions import OperationalError

APP = """
import os
import re
if os.environ["KIND"] == "celery":
    from celery import Celery
else:
    from turbo import Celery

app = Celery("large", broker=os.environ["BROKER"], backend="rpc://")
app.conf.broker_transport_options = {"confirm_publish": True}

@app.task
def length(text):
    return len(text)

@app.task(acks_late=True)
def send(size):
    print("send began")
    length.delay("x" * size)

@app.task(acks_late=True)
def give(size):
    print("give began")
    return "y" * size
"""
READY = r"ready\.$"
LIMIT = 300_000
SIZE = 400_000
NAMES_BOTH = rf"message size {SIZE // 1000}\d\d\d is larger than configured max size {LIMIT}"


@pytest.fixture
def limited(rabbitmq: RabbitMQ, vhost: str) -> Iterator[str]:
    """A virtual host of a broker that takes no message above LIMIT bytes."""
    before = rabbitmq.evaluate("element(2, application:get_env(rabbit, max_message_size))")
    _limit(rabbitmq, str(LIMIT))
    yield vhost
    _limit(rabbitmq, before)


def _limit(rabbitmq: RabbitMQ, size: str) -> None:
    # Where RabbitMQ 3 looks, and where 4 does.
    rabbitmq.evaluate(
        f"application:set_env(rabbit, max_message_size, {size}), persistent_term:put(max_message_size, {size})"
    )


@pytest.mark.parametrize("kind", ["turbo", "celery"])
def test_what_a_task_sends_or_returns(kind: str, limited: str, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(APP)
    env = {**os.environ, "KIND": kind, "BROKER": limited, "C_FORCE_ROOT": "1"}
    with (
        Turbo("client", broker=limited, backend="rpc://", set_as_current=False) as client,
        WorkerProcess("-A", "large", "-c", "1", "-l", "info", directory=tmp_path, env=env) as worker,
    ):
        worker.wait_for_line(READY, 60)
        error = failure(client, "large.send")
        assert worker.output.count("send began") == 1
        if kind == "turbo":
            # Celery's class of the name where Celery is imported, as here by other tests.
            assert type(error).__name__ == "OperationalError" and re.search(NAMES_BOTH, str(error))
            error = failure(client, "large.give")
            assert type(error).__name__ == "OperationalError" and "its result cannot be stored" in str(error)
            assert re.search(NAMES_BOTH, str(error))
            assert worker.output.count("give began") == 1
        worker.wait_for_line(NAMES_BOTH)
        assert client.send_task("large.length", ["short"]).get(timeout=60) == 5
        assert "Connection to broker lost" not in worker.output
        worker.terminate()
        assert worker.wait(60) == 0


def failure(client: Turbo, name: str) -> Any:
    """The error with which a task ends that makes a message of SIZE."""
    with pytest.raises(Exception, match=".") as caught:
        client.send_task(name, [SIZE]).get(timeout=60)
    return caught.value


def test_what_a_client_sends(limited: str) -> None:
    with Turbo("client", broker=limited, set_as_current=False) as client:
        for send in (client.send_task, client.send_task):
            with pytest.raises(OperationalError, match=NAMES_BOTH):
                send("large.length", ["x" * SIZE])
        with pytest.raises(OperationalError, match=NAMES_BOTH), client.pipeline():
            client.send_task("large.length", ["x" * SIZE])
        assert client.send_task("large.length", ["short"]).id
