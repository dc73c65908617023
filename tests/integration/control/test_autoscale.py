"""A worker with --autoscale, under a load that comes and goes, asked by Celery's client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post


@pytest.fixture(params=["turbo", "celery"])
def place(request: pytest.FixtureRequest, make_post: Callable[[str], Post]) -> Iterator[tuple[Post, WorkerProcess]]:
    """A worker with no child at first and at most three; one that is not needed leaves after a second."""
    post = make_post(request.param)
    options = ("--autoscale", "0,3", "--prefetch-multiplier", "2")
    with post.worker(*options, env={"AUTOSCALE_KEEPALIVE": "1"}) as worker:
        worker.wait_for_line(READY, 60)
        yield post, worker


def _scaler(post: Post) -> dict[str, Any]:
    found: dict[str, Any] = post.ask("stats")["autoscaler"]
    return found


def _wait_current(post: Post, count: int) -> None:
    wait_until(
        f"{count} children", lambda: _scaler(post)["current"] == count and len(post.pids()) == count, 30
    )  # fmt: skip


@pytest.mark.row("PL20", "CL15", "CF28", "RC8")
def test_the_pool_follows_the_work_and_no_task_is_interrupted(place: tuple[Post, WorkerProcess]) -> None:
    post, worker = place
    assert post.pids() == []
    assert _scaler(post) == {"max": 3, "min": 0, "current": 0, "qty": 0}
    assert post.ask("stats")["prefetch_count"] == 6, "the window is that of three children from the start"
    fifos = [post.fifo() for _ in range(4)]
    ids = [post.send("late", str(fifo)) for fifo in fifos]
    _wait_current(post, 3)
    # Three messages are enough for three children; the fourth may be on its way.
    wait_until("all four count", lambda: _scaler(post)["qty"] == 4, 60)
    fifos[0].write_text("0")
    fifos[1].write_text("1")
    wait_until("two are left", lambda: _scaler(post)["qty"] == 2, 60)
    _wait_current(post, 2)
    wait_until("both that are left run", lambda: len(post.ask("active")) == 2, 60)
    for number in (2, 3):
        fifos[number].write_text(str(number))
    assert [post.client.AsyncResult(each).get(timeout=60) for each in ids] == ["0", "1", "2", "3"]
    _wait_current(post, 0)
    # From nothing again.
    fifo = post.fifo()
    again = post.send("wait", str(fifo))
    post.wait_active(again)
    fifo.write_text("again")
    assert post.client.AsyncResult(again).get(timeout=60) == "again"
    assert "Scaling up 1 processes." in worker.output
    assert not re.search("WorkerLost|Traceback|CRITICAL", worker.output)


@pytest.mark.row("RC24", "RC26", "RC32")
def test_limits_are_changed_by_remote_control(place: tuple[Post, WorkerProcess]) -> None:
    post, _worker = place
    (said,) = post.celery(("control", "-t", "20", "-d", NODE, "autoscale", "5", "2"))
    assert "autoscale now max=5 min=2" in said
    _wait_current(post, 2)
    wait_until("a window for five", lambda: post.ask("stats")["prefetch_count"] == 10, 60)
    assert "not supported with autoscale" in post.ask("pool_grow", n=1)["error"]
    assert "not supported with autoscale" in post.ask("pool_shrink", n=1)["error"]
    assert "cannot have" in post.ask("autoscale", max=1)["error"]
    assert post.ask("autoscale", max=1, min=1) == {"ok": "autoscale now max=1 min=1"}
    _wait_current(post, 1)
