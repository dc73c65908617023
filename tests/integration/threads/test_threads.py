"""Tasks in threads of a real worker (``-P threads``): at once in one child, each with its own request and limits."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import billiard.exceptions
import celery.exceptions
import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.threads.conftest import LOST, Place
from turbo import chord, exceptions

#: A reader that has Celery loaded gets billiard's classes, as other tests of the session may have done.
SOFT = (exceptions.SoftTimeLimitExceeded, billiard.exceptions.SoftTimeLimitExceeded)
HARD = (exceptions.TimeLimitExceeded, billiard.exceptions.TimeLimitExceeded)
REVOKED = (exceptions.TaskRevokedError, celery.exceptions.TaskRevokedError)


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[WorkerProcess]:
    """A worker of one child with eight threads, and the queue ``eight``."""
    with place.worker("eight", "-c", "8") as process:
        process.wait_for_line(r"ready\.$")
        yield process


@pytest.mark.row("PL24")
def test_eight_tasks_run_at_once_in_one_process(place: Place, worker: WorkerProcess) -> None:
    assert "children  1 (8 threads)" in worker.output
    where = uuid.uuid4().hex
    results = [place.send("meet", where, 8, queue="eight") for _ in range(8)]
    assert {result.get(timeout=60) for result in results} == set(worker.pool_pids())


def test_no_more_than_asked_for(place: Place, worker: WorkerProcess) -> None:
    go = place.directory / "crowd"
    results = [place.send("crowd", str(go), queue="eight") for _ in range(30)]
    place.oracle.wait_count("crowd", 8, 60)
    go.touch()
    assert max(result.get(timeout=60) for result in results) == 8


def test_each_thread_has_its_own_request_and_names_its_task_in_the_log(place: Place, worker: WorkerProcess) -> None:
    where = uuid.uuid4().hex
    results = [place.send("who", number, where, 8, queue="eight") for number in range(8)]
    for number, result in enumerate(results):
        same, before, in_thread = result.get(timeout=60)
        assert same and in_thread
        assert before == [result.id, result.id, number]
        worker.wait_for_line(rf"who\[{result.id}\].*logged by {number}$")
        worker.wait_for_line(rf"\] printed by {number}$")


def test_coroutines_run_among_them(place: Place, worker: WorkerProcess) -> None:
    results = [place.send("wait", number, queue="eight") for number in range(20)]
    assert [result.get(timeout=60) for result in results] == list(range(20))


def test_retries_messages_states_handlers_and_exits(place: Place, worker: WorkerProcess) -> None:
    again = [place.send("again", queue="eight") for _ in range(10)]
    assert {result.get(timeout=60) for result in again} == {2}
    handled = [place.send("handled", number, queue="eight") for number in range(300)]
    assert [result.get(timeout=60) for result in handled] == list(range(300))
    wait_until("handlers", lambda: len(place.oracle.ids("handled")) == 300, 60)
    assert set(place.oracle.ids("handled")) == {f"{result.id} True" for result in handled}
    before = worker.pool_pids()
    with pytest.raises(SystemExit):
        place.send("left", queue="eight").get(timeout=60)
    assert worker.pool_pids() == before, "an exit ends the task and not its child"


def test_a_batch_takes_one_thread(place: Place, worker: WorkerProcess) -> None:
    where = uuid.uuid4().hex
    batch = [place.send("together", where, queue="eight") for _ in range(4)]
    meeting = place.send("meet", where, 2, queue="eight")
    ends = [result.get(timeout=60) for result in batch]
    assert [end[:2] for end in ends] == [[result.id, 4] for result in batch]
    assert len({name for _, _, name in ends}) == 1
    assert meeting.get(timeout=60)


@pytest.mark.row("CV5", "CV10")
def test_chords_of_functions_in_threads(place: Place, worker: WorkerProcess) -> None:
    where = uuid.uuid4().hex
    parts = [place.client.signature("meet", (where, 8), queue="eight") for _ in range(8)]
    body = place.client.signature("echo", queue="eight")
    assert set(chord(parts, body, app=place.client).delay().get(timeout=60)) == set(worker.pool_pids())


@pytest.mark.row("PL6")
def test_a_soft_limit_is_raised_in_the_thread_it_is_of(place: Place, worker: WorkerProcess) -> None:
    where = uuid.uuid4().hex
    beside = place.send("meet", where, 2, queue="eight")
    # The limit must not be over before the body has begun.
    caught = place.send("spin", True, queue="eight", soft_time_limit=1.0)
    uncaught = place.send("spin", queue="eight", soft_time_limit=1.0)
    asked = place.send("spin", True, queue="eight")
    place.runs("spin", asked.id)
    place.client.control.revoke(asked.id, terminate=True, signal="SIGUSR1")
    assert [result.get(timeout=60) for result in (caught, asked)] == ["caught", "caught"]
    with pytest.raises(SOFT):
        uncaught.get(timeout=60)
    last = place.send("meet", where, 2, queue="eight")
    assert beside.get(timeout=60) and last.get(timeout=60)
    assert place.oracle.ids("init") == [str(pid) for pid in worker.pool_pids()], "it began once, and is the same still"


def test_what_inspect_shows(place: Place, worker: WorkerProcess) -> None:
    go = place.directory / "shown"
    shown = place.send("early", str(go), queue="eight")
    place.runs("early", shown.id)
    inspect = place.client.control.inspect(destination=["eight@here"], timeout=60)
    pool = inspect.stats()["eight@here"]["pool"]
    assert (pool["max-concurrency"], pool["threads"], pool["processes"]) == (8, 8, worker.pool_pids())
    wait_until("nothing else runs", lambda: len(inspect.active()["eight@here"]) == 1, 60)
    (row,) = inspect.active()["eight@here"]
    assert (row["id"], row["worker_pid"], row["acknowledged"]) == (shown.id, worker.pool_pids()[0], True)
    go.touch()
    shown.get(timeout=60)


@pytest.mark.row("PL7")
def test_a_hard_limit_ends_its_task_and_its_child_after_the_others(place: Place) -> None:
    go = place.directory / "hard"
    with place.worker("hard", "-c", "4") as worker:
        worker.wait_for_line(r"ready\.$")
        beside = [place.send(name, str(go), queue="hard") for name in ("early", "file")]
        place.runs("early", beside[0].id)
        place.runs("file", beside[1].id)
        (old,) = worker.pool_pids()
        stuck = place.send("stuck", queue="hard", time_limit=0.3)
        with pytest.raises(HARD):
            stuck.get(timeout=60)
        worker.wait_for_line("gets no more work and is replaced")
        together = [place.send("too_long", queue="hard") for _ in range(3)]
        for result in together:
            with pytest.raises(HARD):
                result.get(timeout=60)
        # The others still run, and new work goes to a new child.
        new = place.send("meet", uuid.uuid4().hex, 1, queue="hard").get(timeout=60)
        assert new != old
        assert old in worker.pool_pids()
        go.touch()
        assert [result.get(timeout=60) for result in beside] == [old, old]
        wait_until("the old child is gone", lambda: old not in worker.pool_pids(), 60)
        worker.terminate()
        assert worker.wait(60) == 0


def test_what_an_ended_task_still_does_is_dropped(place: Place) -> None:
    wakes, go = place.directory / "wakes", place.directory / "dropped"
    with place.worker("drop", "-c", "2") as worker:
        worker.wait_for_line(r"ready\.$")
        beside = place.send("early", str(go), queue="drop")
        place.runs("early", beside.id)
        limited = place.send("woken", str(wakes), queue="drop", time_limit=0.3)
        with pytest.raises(HARD):
            limited.get(timeout=60)
        wakes.touch()
        worker.wait_for_line("thread of a task that was ended is done")
        go.touch()
        beside.get(timeout=60)
        wait_until("another child", lambda: len(worker.pool_pids()) == 1, 60)
        place.send("note", "last", queue="drop").get(timeout=60)
    with pytest.raises(HARD):
        limited.get(timeout=60)
    assert place.oracle.ids("note") == ["last"]


@pytest.mark.row("RC16")
def test_terminating_one_leaves_the_others(place: Place) -> None:
    go = place.directory / "terminated"
    with place.worker("term", "-c", "4") as worker:
        worker.wait_for_line(r"ready\.$")
        beside = place.send("file", str(go), queue="term")
        stuck = place.send("stuck", queue="term")
        place.runs("file", beside.id)
        place.runs("stuck", stuck.id)
        (old,) = worker.pool_pids()
        place.client.control.revoke(stuck.id, terminate=True)
        with pytest.raises(REVOKED):
            stuck.get(timeout=60)
        assert place.send("meet", uuid.uuid4().hex, 1, queue="term").get(timeout=60) != old
        go.touch()
        assert beside.get(timeout=60) == old
        wait_until("the old child is gone", lambda: old not in worker.pool_pids(), 60)


@pytest.mark.row("PL17")
def test_a_killed_child_loses_all_its_tasks_each_by_its_own_rule(place: Place) -> None:
    nowhere = str(place.directory / "never")
    with place.worker("kill", "-c", "4") as worker:
        worker.wait_for_line(r"ready\.$")
        late = [place.send("file", nowhere, queue="kill") for _ in range(2)]
        early = [place.send("early", nowhere, queue="kill") for _ in range(2)]
        place.runs("file", *(result.id for result in late))
        place.runs("early", *(result.id for result in early))
        (old,) = worker.pool_pids()
        os.kill(old, signal.SIGKILL)
        for result in early:
            with pytest.raises(LOST):
                result.get(timeout=60)
        assert {result.get(timeout=60) for result in late} == set(worker.pool_pids())
        assert sorted(place.oracle.ids("early")).count(early[0].id) == 1


@pytest.mark.row("PL12")
def test_children_are_replaced_after_their_tasks(place: Place) -> None:
    with place.worker("used", "-c", "4", "--max-tasks-per-child", "10") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("echo", number, queue="used") for number in range(100)]
        assert [result.get(timeout=60) for result in results] == list(range(100))
        assert worker.output.count("has run 10 tasks and is replaced") >= 9


def test_threads_over_several_processes(place: Place) -> None:
    with place.worker("both", "-c", "6", "--processes", "2") as worker:
        worker.wait_for_line(r"ready\.$")
        assert "children  2 (3 threads each)" in worker.output
        go = place.directory / "both"
        results = [place.send("early", str(go), queue="both") for _ in range(6)]
        place.runs("early", *(result.id for result in results))
        go.touch()
        pids = [result.get(timeout=60) for result in results]
        assert sorted(pids.count(pid) for pid in worker.pool_pids()) == [3, 3]


def test_a_warm_shutdown_lets_them_end(place: Place) -> None:
    go = place.directory / "warm"
    with place.worker("warm", "-c", "5") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("early", str(go), queue="warm") for _ in range(5)]
        place.runs("early", *(result.id for result in results))
        worker.terminate()
        worker.wait_for_line("TERM: warm shutdown")
        go.touch()
        assert worker.wait(60) == 0
    assert len({result.get(timeout=60) for result in results}) == 1


def test_a_cold_shutdown_gives_late_acked_messages_back(place: Place) -> None:
    nowhere = str(place.directory / "never")
    with place.worker("cold", "-c", "3") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("file", nowhere, queue="cold") for _ in range(3)]
        place.runs("file", *(result.id for result in results))
        worker.send_signal(signal.SIGQUIT)
        worker.wait(60)
    with place.worker("cold", "-c", "3"):
        assert len({result.get(timeout=60) for result in results}) == 1
