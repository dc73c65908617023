"""Growing and shrinking the pool of a running worker, asked for by Celery's client and command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, READY, Post


@pytest.fixture(params=["turbo", "celery"])
def place(request: pytest.FixtureRequest, make_post: Callable[[str], Post]) -> Iterator[tuple[Post, WorkerProcess]]:
    """A worker with two children and a window of one message for each."""
    post = make_post(request.param)
    with post.worker("-c", "2", "--prefetch-multiplier", "1") as worker:
        worker.wait_for_line(READY, 60)
        yield post, worker


def _wait_children(post: Post, count: int) -> set[int]:
    wait_until(f"{count} children", lambda: len(post.pids()) == count, 60)
    return set(post.pids())


def _wait_window(post: Post, count: int) -> None:
    wait_until(f"a window of {count}", lambda: post.ask("stats")["prefetch_count"] == count, 60)


@pytest.mark.row("RC24", "PL21", "RC32")
def test_a_pool_grows_and_shrinks_and_no_task_is_interrupted(place: tuple[Post, WorkerProcess]) -> None:
    post, worker = place
    first = _wait_children(post, 2)
    (said,) = post.celery(("control", "-t", "20", "-d", NODE, "pool_grow", "2"))
    assert "pool will grow" in said
    assert first < _wait_children(post, 4)
    assert post.ask("stats")["pool"]["max-concurrency"] == 4
    _wait_window(post, 4)

    fifos = [post.fifo() for _ in range(4)]
    ids = [post.send("late", str(fifo)) for fifo in fifos]
    busy = {post.wait_active(each)["worker_pid"] for each in ids}
    assert len(busy) == 4, "each of the four children runs one"
    assert post.ask("pool_shrink", n=3) == {"ok": "pool will shrink"}
    _wait_window(post, 1)
    assert post.ask("stats")["pool"]["max-concurrency"] == 1
    assert len(post.ask("active")) == 4, "they leave after their tasks"
    for fifo in fifos:
        fifo.write_text("done")
    for each in ids:
        assert post.client.AsyncResult(each).get(timeout=60) == "done"
    assert _wait_children(post, 1) < busy
    assert not re.search("WorkerLost|Traceback", worker.output)
    # The child that stays works.
    fifos = [post.fifo()]
    again = post.send("late", str(fifos[0]))
    fifos[0].write_text("again")
    assert post.client.AsyncResult(again).get(timeout=60) == "again"


@pytest.mark.row("RC24")
def test_the_last_child_stays(place: tuple[Post, WorkerProcess]) -> None:
    post, _worker = place
    _wait_children(post, 2)
    assert "Can't shrink pool" in post.ask("pool_shrink", n=2)["error"]
    assert "not a number of children" in post.ask("pool_grow", n="many")["error"]
    assert len(_wait_children(post, 2)) == 2
