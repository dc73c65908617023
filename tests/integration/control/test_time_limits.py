"""Time limits of a whole worker, changed while it runs: for what begins afterwards, in every child."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker import control

from tests.harness.processes import wait_until
from tests.integration.control.conftest import NODE, Post

WAIT = "controlled.wait"


@pytest.mark.row("RC20")
@pytest.mark.parametrize("task", [WAIT, "controlled.nosuch"])
def test_replies_are_celerys(post: Post, task: str) -> None:
    app = Celery("theirs", set_as_current=False)

    @app.task(name=WAIT, shared=False)
    def limited() -> None:
        """What Celery's command finds."""

    state = SimpleNamespace(app=app)
    for arguments in ({"hard": 30.0, "soft": 20}, {"hard": None, "soft": None}, {}):
        assert post.ask("time_limit", task_name=task, **arguments) == control.time_limit(
            state, task_name=task, **arguments
        )


def test_what_is_no_number_is_refused(post: Post) -> None:
    for value in ("soon", -1, float("inf")):
        assert "ValueError" in post.ask("time_limit", task_name=WAIT, hard=value)["error"]


@pytest.mark.row("RC20")
def test_new_limits_hold_for_what_begins_afterwards(post: Post) -> None:
    """The first tasks fill both children, so that one message waits: it has the new limits, and they do not."""
    fifos = [post.fifo() for _ in range(3)]
    running = [post.send("wait", str(fifo)) for fifo in fifos[:2]]
    for identifier in running:
        post.wait_active(identifier)
    waiting = post.send("wait", str(fifos[2]))
    wait_until("it waits", lambda: [row["id"] for row in post.ask("reserved")] == [waiting], 60)
    said = post.celery(("control", "-t", "20", "-d", NODE, "time_limit", WAIT, "0.5", "60"))
    assert "time limits set successfully" in said[0]
    fifos[0].write_text("done")
    post.wait_state(running[0], "SUCCESS")
    post.wait_state(waiting, "FAILURE")
    assert type(post.client.AsyncResult(waiting).result).__name__ == "SoftTimeLimitExceeded"
    assert post.state(running[1]) != "FAILURE", "it began before the change"
    fifos[1].write_text("done")
    post.wait_state(running[1], "SUCCESS")
    assert post.ask("time_limit", task_name=WAIT)["ok"]
    assert _runs_on(post)


@pytest.mark.row("RC20")
def test_a_new_hard_limit_holds_in_children_that_are_forked_later(post: Post) -> None:
    assert post.ask("time_limit", task_name=WAIT, hard=0.5)["ok"]
    try:
        for _ in range(3):  # two children; each kill makes a new one
            identifier = post.send("wait", str(post.fifo()))
            post.wait_state(identifier, "FAILURE")
            result = post.client.AsyncResult(identifier).result
            assert (type(result).__name__, result.args) == ("TimeLimitExceeded", (0.5,))
        assert f"{WAIT} [time_limit=0.5]" in post.ask("registered", taskinfoitems=["time_limit"])
    finally:
        assert post.ask("time_limit", task_name=WAIT)["ok"]
    assert _runs_on(post)


def _runs_on(post: Post) -> bool:
    """Whether a task runs for more than a second, which is twice the limit of before."""
    fifo = post.fifo()
    identifier = post.send("wait", str(fifo))
    began = post.wait_active(identifier)["time_start"]
    wait_until("it has run for a second", lambda: time.time() - began > 1.0, 60)
    assert [row["id"] for row in post.ask("active")] == [identifier]
    fifo.write_text("done")
    post.wait_state(identifier, "SUCCESS")
    return True
