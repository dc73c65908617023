"""Remote control where the app has a serializer of its own: answered whatever the serializer, and never at a cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.harness.worker import WorkerProcess
from tests.integration.control import signed_app  # noqa: F401 - the client needs its serializers
from tests.integration.control.conftest import NODE, PATIENCE, READY


def ask(vhost: str, serializer: str, method: str) -> Any:
    """Ask the worker with a client that uses a serializer; its reply."""
    with Celery("client", broker=vhost, set_as_current=False) as client:
        client.conf.update(task_serializer=serializer, accept_content=["json", "signed"])
        (reply,) = client.control.broadcast(method, destination=[NODE], reply=True, timeout=PATIENCE, limit=1)
        return reply[NODE]


@pytest.mark.row("RC1")
@pytest.mark.parametrize("kind", ["turbo", "celery"])
@pytest.mark.parametrize("serializer", ["signed", "broken"])
def test_it_is_answered_whatever_the_serializer(kind: str, serializer: str, vhost: str, tmp_path: Path) -> None:
    env = {"KIND": kind, "SERIALIZER": serializer, "CONTROLLED_BROKER": vhost, "C_FORCE_ROOT": "1"}
    command = ("-A", "tests.integration.control.signed_app", "-n", NODE, "-c", "1", "-l", "info")
    with WorkerProcess(*command, directory=tmp_path, env=env) as worker:
        worker.wait_for_line(READY, 60)
        assert ask(vhost, "json", "ping") == {"ok": "pong"}
        assert ask(vhost, "signed", "ping") == {"ok": "pong"}
        reply = ask(vhost, "json", "unencodable")
        assert "EncodeError" in reply["error"]
        worker.wait_for_line("The reply to 'unencodable' cannot be encoded")
        assert ask(vhost, "signed", "ping") == {"ok": "pong"}
        assert "Connection to broker lost" not in worker.output
        worker.terminate()
        assert worker.wait(60) == 0
