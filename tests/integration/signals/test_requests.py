"""Request classes of tasks: what the master calls on them; requests that raise, block or choose the verb."""

from __future__ import annotations

import pytest

from tests.harness.processes import wait_until
from tests.integration.signals.scene import Line, Scene


def of_request(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.what.startswith("request.")]


@pytest.mark.row("HA8")
def test_success(quiet: Scene) -> None:
    sent = quiet.send("watched", "return")
    lines = quiet.wait(sent, "request.on_success")
    accepted, success = of_request(lines)
    assert {accepted.pid, success.pid} == {quiet.worker.pid}
    body = next(line for line in lines if line.what == "body")
    assert accepted.details == {"worker_pid": body.pid, "info": "watched"}
    assert success.details == {"failed": False, "value": "42", "state": "SUCCESS"}


@pytest.mark.row("HA8")
def test_failure_and_retry(quiet: Scene) -> None:
    failed, retried = quiet.send("watched", "raise"), quiet.send("watched", "retry")
    heard = of_request(quiet.wait(failed, "request.on_failure"))
    assert [line.what for line in heard] == ["request.on_accepted", "request.on_success", "request.on_failure"]
    assert heard[1].details == {"failed": True, "value": None, "state": "FAILURE"}
    assert heard[2].details == {"exc": "ValueError('boom')", "return_ok": True, "task": "watched"}
    heard = of_request(quiet.wait(retried, "request.on_success", count=2))
    retries = [line for line in heard if line.what == "request.on_retry"]
    assert [line.details["exc"] for line in retries] == ["LookupError('again')"]
    assert quiet.state(retried) == ("SUCCESS", "second")


@pytest.mark.row("HA8")
@pytest.mark.parametrize(("how", "error"), [("ignore", "Ignore()"), ("reject", "reject requeue=False")])
def test_neither(quiet: Scene, how: str, error: str) -> None:
    heard = of_request(quiet.wait(quiet.send("watched", how), "request.on_failure"))
    assert heard[-1].details["exc"].startswith(error)


@pytest.mark.row("HA8", "ST12")
def test_what_does_not_pickle_is_named(quiet: Scene) -> None:
    sent = quiet.send("unpicklable")
    heard = of_request(quiet.wait(sent, "request.on_failure"))
    assert "Unpicklable('ab')" in heard[-1].details["exc"]


@pytest.mark.row("HA8", "HA9")
def test_limits(quiet: Scene) -> None:
    soft, hard = quiet.send("watched_soft", "soft"), quiet.send("watched_hard", "hang")
    heard = of_request(quiet.wait(soft, "request.on_success"))
    assert [line.what for line in heard] == ["request.on_accepted", "request.on_timeout", "request.on_success"]
    assert (heard[1].details["soft"], heard[1].details["timeout"]) == (True, 1)
    assert heard[2].details["value"] == "'SoftTimeLimitExceeded'"
    quiet.worker.wait_for_line(rf"Soft time limit \(1s\) exceeded for watched_soft\[{soft}\]")
    heard = of_request(quiet.wait(hard, "request.on_timeout"))
    assert [line.what for line in heard] == ["request.on_accepted", "request.on_timeout"]
    assert (heard[1].details["soft"], heard[1].details["timeout"]) == (False, 1)
    assert heard[1].details["worker_pid"] == heard[0].details["worker_pid"]
    quiet.worker.wait_for_line(rf"Hard time limit \(1(\.0)?s\) exceeded for watched_hard\[{hard}\]")
    wait_until("it is stored", lambda: quiet.state(hard)[0] == "FAILURE", 60)


@pytest.mark.row("HA8")
def test_a_lost_child(quiet: Scene) -> None:
    heard = of_request(quiet.wait(quiet.send("watched", "die"), "request.on_failure"))
    assert [line.what for line in heard] == ["request.on_accepted", "request.on_failure"]
    assert heard[1].details["exc"].startswith("WorkerLostError(")
    assert heard[1].details["return_ok"] is False


@pytest.mark.row("HA8")
def test_a_request_decides_about_its_message(quiet: Scene) -> None:
    sent = quiet.send("requeueing", "raise")
    quiet.wait(sent, "body", count=2)
    quiet.wait(quiet.send("watched"), "request.on_success")
    assert quiet.names(sent) == ["body", "body"]


@pytest.mark.row("HA8")
def test_a_request_that_raises_or_blocks_holds_up_nobody(quiet: Scene) -> None:
    mark = quiet.worker.mark()
    raising, blocking = quiet.send("bad_request"), quiet.send("bad_request", 1)
    quiet.wait(blocking, "request.on_success")
    plain = [quiet.send("act") for _ in range(10)]
    for each in plain:
        quiet.wait(each, "after_return")
    quiet.worker.wait_for_line("The request of a task .* takes longer than", 60, since=mark)
    quiet.worker.wait_for_line("RuntimeError: the request is broken", since=mark)
    for each in (raising, blocking):
        wait_until(each, lambda each=each: quiet.state(each) == ("SUCCESS", "fine"), 60)  # type: ignore[misc]
    quiet.wait(quiet.send("watched"), "request.on_success")
