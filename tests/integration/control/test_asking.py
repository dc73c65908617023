"""turbo's own client as the one who asks: workers of turbo's apps and of Celery's answer it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.processes import free_port, wait_until
from tests.integration.control.conftest import NODE, PATIENCE, Post
from turbo import AsyncResult, Turbo
from turbo.exceptions import OperationalError


@pytest.fixture
def app(post: Post) -> Iterator[Turbo]:
    conf = post.client.conf
    with Turbo("asker", broker=post.vhost, backend=conf.result_backend, set_as_current=False) as made:
        yield made


def ending(result: AsyncResult) -> tuple[str, str]:
    """Class and text of what a task ended with; the class is Celery's where Celery is loaded."""
    with pytest.raises(Exception) as raised:
        result.get(timeout=60)
    return type(raised.value).__name__, str(raised.value)


@pytest.mark.row("RC1", "RC2")
def test_who_is_there(app: Turbo, post: Post) -> None:
    heard: list[Any] = []
    assert app.control.ping([NODE], timeout=PATIENCE, callback=heard.append) == [{NODE: {"ok": "pong"}}] == heard
    assert app.control.ping(timeout=PATIENCE, limit=1) == [{NODE: {"ok": "pong"}}]
    assert app.control.ping(["nobody@here"], timeout=0.2) == []
    assert app.control.broadcast("ping", destination=[NODE]) is None, "nobody waits unless asked to"
    assert app.control.inspect([NODE], timeout=PATIENCE).ping() == {NODE: {"ok": "pong"}}
    assert app.control.inspect(NODE, timeout=PATIENCE).ping() == {"ok": "pong"}
    assert app.control.inspect(pattern="one@*", matcher="glob", timeout=PATIENCE, limit=1).ping() is not None
    assert app.control.inspect(["nobody@here"], timeout=0.2).ping() is None
    with pytest.raises(ValueError, match="list"):
        app.control.broadcast("ping", destination=NODE)


@pytest.mark.row("RC4", "RC12", "CA32")
def test_a_result_revokes_its_task(app: Turbo, post: Post) -> None:
    inspect = app.control.inspect(NODE, timeout=PATIENCE)
    fifos = [post.fifo(), post.fifo()]
    running = [app.send_task("controlled.wait", (str(fifo),)) for fifo in fifos]
    wait_until("both run", lambda: {row["id"] for row in inspect.active()} == {each.id for each in running}, 60)
    waiting = app.send_task("controlled.wait", ("/nonexistent",))
    wait_until("it waits", lambda: [row["id"] for row in inspect.reserved()] == [waiting.id], 60)
    assert inspect.query_task(running[0].id, waiting.id)[waiting.id][0] == "reserved"
    waiting.revoke(wait=True, timeout=PATIENCE / 10)
    assert waiting.id in inspect.revoked()
    running[0].revoke(terminate=True, signal="SIGKILL")
    assert ending(running[0]) == ("TaskRevokedError", "terminated")
    fifos[1].write_text("done")
    assert running[1].get(timeout=60) == "done"
    assert ending(waiting) == ("TaskRevokedError", "revoked")


def test_what_workers_say_of_themselves(app: Turbo, post: Post) -> None:
    inspect = app.control.inspect(NODE, timeout=PATIENCE)
    assert "controlled.noop" in inspect.registered()
    assert [queue["name"] for queue in inspect.active_queues()] == ["celery"]
    assert inspect.scheduled() == []
    assert inspect.stats()["pool"]["max-concurrency"] == 2
    assert inspect.conf()["broker_connection_retry_on_startup"] is True
    assert inspect.clock()["clock"] > 0
    assert app.control.heartbeat([NODE]) is None
    answer = app.control.rate_limit("controlled.noop", "10/s", [NODE], reply=True, timeout=PATIENCE)
    assert answer == [{NODE: {"ok": "new rate limit set successfully"}}]
    answer = app.control.rate_limit("controlled.noop", 0, [NODE], reply=True, timeout=PATIENCE)
    assert answer == [{NODE: {"ok": "rate limit disabled successfully"}}]


def test_replies_are_waited_for_as_long_as_asked(app: Turbo, post: Post) -> None:
    began = time.monotonic()
    assert app.control.ping(["nobody@here"], timeout=0.3) == []
    assert time.monotonic() - began >= 0.3


def test_a_broker_that_is_away() -> None:
    lost = Turbo("lost", broker=f"amqp://127.0.0.1:{free_port()}", set_as_current=False)
    with pytest.raises(OperationalError, match="remote control"):
        lost.control.ping()
    with pytest.raises(TypeError, match="own broker"):
        lost.control.ping(connection=object())
