"""Soft and hard time limits against bodies that do their best to outlive them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.processes import Stopwatch, wait_until
from tests.integration.worker.site import Site

#: Seconds, the same in ``tasks``. A child gets this far only if it is not kept from its body for as long.
LIMIT, SOFT = 1.5, 1.0
#: Longest from the limit to the child's end, in seconds.
GRACE = 1.0


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    """A worker whose own limits every task here either has or overrides."""
    with site.running("-c", "2", "--time-limit", str(LIMIT), "--soft-time-limit", str(SOFT)):
        yield


def _seconds_run(site: Site, identifier: str) -> float:
    started = next(trace.mono_ns for trace in site.oracle.traces("start") if trace.id == identifier)
    return (time.monotonic_ns() - started) / 1e9


def _wait_killed(site: Site, identifier: str, limit: float, sent: Stopwatch) -> None:
    """Wait for the end of the child that runs a task; it must come within the grace after the limit.

    ``sent`` was started before the task was sent: what this process reads later, it may read late.
    """
    pid = site.wait_started(identifier)
    wait_until(f"child {pid} is gone", lambda: not psutil.pid_exists(pid), 60, every=0.005)
    assert sent.seconds <= limit + GRACE
    assert limit - 0.05 <= _seconds_run(site, identifier)


@pytest.mark.row("PL7", "PL10", "PL8", "P7", "RU3")
@pytest.mark.parametrize("how", ["hang", "count in C", "mask", "swallow"])
@pytest.mark.parametrize(("task", "options"), [("long", {"time_limit": LIMIT}), ("limited", {})])
def test_the_hard_limit_ends_what_will_not_end(site: Site, how: str, task: str, options: dict[str, float]) -> None:
    # The soft limit of the worker strikes first; a header of its own puts it out of the way.
    sent = Stopwatch()
    identifier = site.send(task, how, soft_time_limit=20.0, **options)
    _wait_killed(site, identifier, LIMIT, sent)
    document = site.wait_document(identifier)
    assert document["status"] == "FAILURE"
    assert (document["result"]["exc_type"], document["result"]["exc_message"]) == ("TimeLimitExceeded", [LIMIT])
    site.wait_settled()


@pytest.mark.row("PL7", "P7", "P20")
def test_what_a_task_started_ends_with_it(site: Site) -> None:
    sent = Stopwatch()
    identifier = site.send("long", "have children", time_limit=LIMIT)
    _wait_killed(site, identifier, LIMIT, sent)
    grandchild = next(trace.attempt for trace in site.oracle.traces("grandchild") if trace.id == identifier)
    wait_until("the grandchild is gone", lambda: not _runs(grandchild), 60)
    site.wait_document(identifier)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.row("PL6", "PL8", "CL13", "RU4")
@pytest.mark.parametrize(
    ("task", "options"),
    [("softly", {}), ("long", {"soft_time_limit": SOFT}), ("early", {}), ("early", {"soft_time_limit": SOFT})],
)
def test_the_soft_limit_is_raised_in_the_body(site: Site, task: str, options: dict[str, float]) -> None:
    sent = Stopwatch()
    # The worker's hard limit follows soon; a header of its own puts it out of the way of a child that gets no time.
    identifier = site.send(task, "catch soft", time_limit=30, **options)
    assert site.wait_document(identifier)["result"] == "caught"
    assert sent.seconds < SOFT + GRACE


@pytest.mark.row("PL8", "CL13")
def test_the_worker_s_limits_hold_where_nothing_else_is_said(site: Site) -> None:
    sent = Stopwatch()
    identifier = site.send("early", "count in C")
    _wait_killed(site, identifier, LIMIT, sent)
    assert site.wait_document(identifier)["result"]["exc_type"] == "TimeLimitExceeded"


@pytest.mark.row("PL8", "PL9")
def test_a_task_s_longer_limit_wins_over_the_worker_s_and_counts_from_its_start(site: Site) -> None:
    fifos = [site.fifo() for _ in range(4)]
    # Two run at a time: the later two wait longer than the worker's limit before they start.
    sent = [site.send("long", "wait", str(fifo)) for fifo in fifos[:2]]
    for identifier in sent:
        site.wait_started(identifier)
    sent += [site.send("early", "wait", str(fifo), soft_time_limit=25, time_limit=30) for fifo in fifos[2:]]
    wait_until("the worker's limit is over twice", lambda: _seconds_run(site, sent[1]) > 2 * LIMIT, 60)
    for fifo in fifos:
        _write(fifo)
    assert [site.wait_document(identifier)["result"] for identifier in sent] == ["in time"] * 4


def _write(fifo: Path) -> None:
    with fifo.open("w") as way:
        way.write("in time")


@pytest.mark.row("PL29", "P7")
def test_the_slot_comes_back_and_the_others_go_on(site: Site) -> None:
    # More than the others need by far: they must have ended before it is killed.
    stuck = site.send("long", "mask", time_limit=10)
    pid = site.wait_started(stuck)
    beside = [site.send("early", "return") for _ in range(20)]
    for identifier in beside:
        assert site.wait_document(identifier)["status"] == "SUCCESS"
    assert site.document(stuck) is None, "the others waited for the one that is stuck"
    wait_until("the stuck child is gone", lambda: not psutil.pid_exists(pid), 60)
    wait_until("its slot is filled", lambda: len(site.worker.children("ForkPoolWorker")) == 2, 60)
    fifos = [site.fifo(), site.fifo()]
    both = [site.send("long", "wait", str(fifo)) for fifo in fifos]
    assert len({site.wait_started(identifier) for identifier in both}) == 2, "two children run two tasks"
    for fifo in fifos:
        _write(fifo)
    for identifier in both:
        assert site.wait_document(identifier)["status"] == "SUCCESS"
