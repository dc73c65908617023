"""ETA, expiry and held messages in a running worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.compat.conftest import Place, turbo_worker
from tests.harness.processes import Stopwatch, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo.app.base import Turbo


@pytest.fixture
def worker(place: Place) -> Iterator[WorkerProcess]:
    with turbo_worker(place) as process:
        yield process


@pytest.fixture
def app(place: Place, worker: WorkerProcess) -> Iterator[Turbo]:
    """A client in this very process: its clock is the worker's."""
    with Turbo("client", broker=place.broker, backend=place.backend, set_as_current=False) as made:
        yield made


@pytest.mark.row("TM1", "CA6", "CA7")
def test_held_and_then_run_never_early(app: Turbo) -> None:
    began = Stopwatch()
    etas = [datetime.now(UTC) + timedelta(seconds=0.2 + 0.013 * number) for number in range(60)]
    sent = [app.send_task("when", eta=eta) for eta in etas]
    late = [result.get(timeout=60) - eta.timestamp() for result, eta in zip(sent, etas, strict=True)]
    assert min(late) >= 0
    assert sorted(late)[len(late) // 2] < 0.25 + began.stalled


@pytest.mark.row("TM2")
def test_an_eta_in_the_past_is_now(app: Turbo) -> None:
    began = Stopwatch()
    assert app.send_task("when", eta=datetime(2020, 1, 1, tzinfo=UTC)).get(timeout=60) > 0
    assert app.send_task("when", countdown=-5).get(timeout=60) > 0
    assert began.seconds < 2


@pytest.mark.row("TM5", "TM6", "CA9", "ST6")
def test_what_expires_while_held_does_not_run(app: Turbo, place: Place, worker: WorkerProcess) -> None:
    now = datetime.now(UTC)
    soon = (now + timedelta(seconds=0.1)).isoformat()
    # As a header only: RabbitMQ drops by itself what its own time to live says.
    doomed = app.send_task("mark", ("doomed",), countdown=0.4, headers={"expires": soon})
    lives = app.send_task("mark", ("lives",), countdown=0.4, expires=60)
    assert lives.get(timeout=60) == "lives"
    wait_until("REVOKED", lambda: doomed.state == "REVOKED", 60)
    worker.wait_for_line(rf"Discarding revoked task: mark\[{doomed.id}\]")
    assert place.oracle.ids("start") == ["lives"]


@pytest.mark.row("TM1", "P11")
def test_thousands_that_wait_hold_up_nothing(app: Turbo, place: Place, rabbitmq: RabbitMQ) -> None:
    due = datetime.now(UTC) + timedelta(minutes=4)
    for _ in range(2000):
        app.send_task("mark", ("waits",), eta=due, ignore_result=True)
    rabbitmq.wait_queue("celery", place.broker, ready=0, unacked=2000, timeout=60)
    began = Stopwatch()
    for number in range(100):
        app.send_task("mark", (f"now-{number}",), ignore_result=True)
    place.oracle.wait_ids("start", [f"now-{number}" for number in range(100)], 60)
    assert began.seconds < 5
    assert "waits" not in place.oracle.ids("start")
    rabbitmq.wait_queue("celery", place.broker, ready=0, unacked=2000)


@pytest.mark.row("RT1", "RT7", "TM1")
def test_a_retry_waits_its_countdown(app: Turbo, place: Place) -> None:
    began = Stopwatch()
    result = app.send_task("twice", (0.6,))
    assert result.get(timeout=60) == 1
    first, second = (trace.mono_ns for trace in place.oracle.traces("start"))
    assert 0.6 <= (second - first) / 1e9 < 3 + began.stalled


@pytest.mark.row("TM1")
def test_what_is_held_goes_back_when_the_worker_ends(
    app: Turbo, place: Place, worker: WorkerProcess, rabbitmq: RabbitMQ
) -> None:
    app.send_task("mark", ("later",), countdown=240)
    rabbitmq.wait_queue("celery", place.broker, ready=0, unacked=1)
    worker.terminate()
    assert worker.wait() == 0
    rabbitmq.wait_queue("celery", place.broker, ready=1, unacked=0)
