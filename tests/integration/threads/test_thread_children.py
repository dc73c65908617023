"""Children that run tasks in threads are restarted, replaced for their memory, and stopped within a time."""

from __future__ import annotations

import signal

import pytest

from tests.harness.processes import Stopwatch, wait_until
from tests.integration.threads.conftest import LOST, Place

#: KiB that a child with its first tasks does not need, and MiB that a task takes to exceed them.
LIMIT, MORE = "150000", 200


@pytest.mark.row("RC25", "PL24")
def test_a_pool_restart_lets_the_tasks_of_all_threads_end_in_the_old_code(place: Place) -> None:
    go = place.directory / "restarted"
    options = ("-c", "4", "--processes", "2", "--", "worker.pool_restarts=true")
    with place.worker("restart", *options) as worker:
        worker.wait_for_line(r"ready\.$")
        wait_until("both children", lambda: len(worker.pool_pids()) == 2, 60)
        old = worker.pool_pids()
        running = [place.send("version", str(go), queue="restart") for _ in range(3)]
        place.runs("version", *(result.id for result in running))
        place.write("new")
        try:
            asked = place.client.control.broadcast(
                "pool_restart", destination=["restart@here"], reply=True, timeout=60, limit=1
            )
            assert asked == [{"restart@here": {"ok": "reload started"}}]
            wait_until("new code runs", lambda: place.send("version", queue="restart").get(timeout=60)[0] == "new", 60)
            assert {*old} & {*worker.pool_pids()}, "tasks still run in an old child"
            go.touch()
            ends = [result.get(timeout=60) for result in running]
            assert {version for version, _ in ends} == {"old"} and {pid for _, pid in ends} <= {*old}
            worker.wait_for_line("The pool has restarted", 60)
        finally:
            place.write("old")
        assert not {*old} & {*worker.pool_pids()}
        # Each new child runs as many tasks at once as an old one did.
        result = place.directory / "after"
        after = [place.send("version", str(result), queue="restart") for _ in range(4)]
        place.runs("version", *(each.id for each in after))
        result.touch()
        pids = [pid for _, pid in (each.get(timeout=60) for each in after)]
        assert sorted(pids.count(pid) for pid in worker.pool_pids()) == [2, 2]


@pytest.mark.row("PL24", "CF15")
def test_a_soft_shutdown_waits_for_threads_and_gives_back_what_still_runs(place: Place) -> None:
    go, never = place.directory / "soft", str(place.directory / "never")
    with place.worker("soft", "-c", "2", "--", "worker.soft_shutdown_timeout=8") as worker:
        worker.wait_for_line(r"ready\.$")
        ends = place.send("early", str(go), queue="soft")
        stays = place.send("file", never, queue="soft")
        place.runs("early", ends.id)
        place.runs("file", stays.id)
        waits = place.send("echo", 1, queue="soft")
        worker.send_signal(signal.SIGQUIT)
        worker.wait_for_line("QUIT: soft shutdown")
        go.touch()
        assert isinstance(ends.get(timeout=60), int)
        assert worker.wait(60) == 1
        assert "DEADLINE: cold shutdown" in worker.output
    assert place.oracle.ids("file") == [stays.id]
    with place.worker("soft", "-c", "2") as worker:
        assert waits.get(timeout=60) == 1
        assert stays.get(timeout=60) in worker.pool_pids()


@pytest.mark.row("PL24", "CF15")
def test_a_soft_shutdown_ends_with_the_last_task_in_a_thread(place: Place) -> None:
    go = place.directory / "soon"
    with place.worker("soon", "-c", "2", "--", "worker.soft_shutdown_timeout=600") as worker:
        worker.wait_for_line(r"ready\.$")
        results = [place.send("early", str(go), queue="soon") for _ in range(2)]
        place.runs("early", *(result.id for result in results))
        worker.send_signal(signal.SIGQUIT)
        worker.wait_for_line("QUIT: soft shutdown")
        told = Stopwatch()
        go.touch()
        worker.wait(60)
        assert told.seconds < 60
    assert len({result.get(timeout=60) for result in results}) == 1


@pytest.mark.row("PL13", "PL24")
def test_a_grown_child_is_replaced_and_ends_after_all_its_threads(place: Place) -> None:
    go = place.directory / "grown"
    with place.worker("grown", "-c", "3", "--max-memory-per-child", LIMIT) as worker:
        worker.wait_for_line(r"ready\.$")
        beside = place.send("early", str(go), queue="grown")
        place.runs("early", beside.id)
        (old,) = worker.pool_pids()
        growing = place.send("grow", MORE, str(go), queue="grown")
        worker.wait_for_line(rf"Child 1 \(pid {old}\) uses \d+ KiB, more than {LIMIT}, and is replaced")
        wait_until(
            "new work goes to its successor",
            lambda: place.send("version", queue="grown").get(timeout=60)[1] != old,
            30,
        )
        assert old in worker.pool_pids()
        go.touch()
        assert [result.get(timeout=60) for result in (beside, growing)] == [old, old]
        wait_until("the grown child has left", lambda: old not in worker.pool_pids(), 60)
        assert place.oracle.ids("grow") == [growing.id]
        assert "it would be replaced after every task" not in worker.output


@pytest.mark.row("PL13", "PL24")
def test_a_child_past_the_hard_memory_limit_is_killed_with_all_its_threads(place: Place) -> None:
    never = str(place.directory / "never")
    with place.worker("huge", "-c", "3", "--max-memory-per-child-hard", LIMIT) as worker:
        worker.wait_for_line(r"ready\.$")
        lost = place.send("early", never, queue="huge")
        late = place.send("file", never, queue="huge")
        place.runs("early", lost.id)
        place.runs("file", late.id)
        (old,) = worker.pool_pids()
        growing = place.send("grow", MORE, never, queue="huge")
        with pytest.raises(LOST, match=f"more than the hard limit of {LIMIT} KiB"):
            lost.get(timeout=60)
        again = {result.get(timeout=60) for result in (late, growing)}
        assert again == set(worker.pool_pids()) and old not in again
