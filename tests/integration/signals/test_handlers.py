"""A task's handlers in a real worker: in which order and process they run, with what, and what is stored by then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.integration.signals.scene import Scene
from turbo.contrib.abortable import AbortableAsyncResult


@pytest.mark.row("HA1", "HA2", "HA3", "HA6", "HA7", "EX1")
def test_success(quiet: Scene) -> None:
    sent = quiet.send("act", "return", kwargs={"x": 1})
    lines = quiet.wait(sent, "after_return")
    assert [line.what for line in lines] == ["before_start", "body", "on_success", "after_return"]
    assert len({line.pid for line in lines}) == 1
    assert lines[0].pid != quiet.worker.pid
    before, _body, success, after = (line.details for line in lines)
    assert before == {"args": ["return"], "kwargs": {"x": 1}, "state": "PENDING"}
    assert success == {"retval": 42, "state": "SUCCESS", "me": sent}
    assert after == {"status": "SUCCESS", "retval": "42", "einfo": None}
    assert quiet.state(sent) == ("SUCCESS", 42)


@pytest.mark.row("HA2", "HA5", "HA6")
def test_failure(quiet: Scene) -> None:
    raised, refused = quiet.send("act", "raise"), quiet.send("act", kwargs={"refuse": True})
    lines = quiet.wait(raised, "after_return")
    assert [line.what for line in lines] == ["before_start", "body", "on_failure", "after_return"]
    assert len({line.pid for line in lines}) == 1
    boom = "ValueError('boom')"
    assert lines[2].details == {
        "exc": boom,
        "einfo": ["ValueError", boom, "ValueError: boom", True, False],
        "state": "FAILURE",
        "me": raised,
    }
    assert lines[3].details == {"status": "FAILURE", "retval": boom, "einfo": None}
    lines = quiet.wait(refused, "after_return")
    assert [line.what for line in lines] == ["before_start", "on_failure", "after_return"]
    assert lines[1].details["exc"] == "PermissionError('not today')"


@pytest.mark.row("HA4", "HA6", "SP6")
def test_retry(quiet: Scene) -> None:
    sent = quiet.send("act", "retry")
    quiet.wait(sent, "on_retry")
    lines = quiet.wait(sent, "after_return")
    told = next(line for line in lines if line.what == "on_retry").details
    assert told["exc"] == "LookupError('again')"
    assert told["einfo"][0] == "Retry"
    assert told["state"] in ("RETRY", "SUCCESS")  # the second attempt may have ended by now
    names = [line.what for line in lines]
    assert (names.count("on_retry"), names.count("on_success"), names.count("after_return")) == (1, 1, 1)
    assert quiet.state(sent) == ("SUCCESS", "second")


@pytest.mark.row("HA4", "RT20")
def test_a_retry_because_the_child_was_lost(quiet: Scene) -> None:
    sent = quiet.send("counted", "die")
    told = next(line for line in quiet.wait(sent, "on_retry") if line.what == "on_retry")
    assert told.pid == quiet.worker.pid
    assert told.details["exc"].startswith("WorkerLostError(")
    lines = quiet.wait(sent, "after_return")
    names = [line.what for line in lines]
    assert (names.count("body"), names.count("on_retry"), names.count("on_failure")) == (2, 1, 1)
    assert quiet.state(sent)[0] == "FAILURE"


@pytest.mark.row("SP1", "SP2", "SP3", "SP7", "HA6")
def test_neither(quiet: Scene) -> None:
    ignored, rejected = quiet.send("act", "ignore"), quiet.send("act", "reject")
    after = quiet.send("act")
    quiet.wait(after, "after_return")
    quiet.worker.wait_for_line(rf"Task act\[{ignored}\] ignored")
    quiet.worker.wait_for_line(rf"Task act\[{rejected}\] reject requeue=False: 'unwanted': its message is rejected")
    assert quiet.names(ignored) == quiet.names(rejected) == ["before_start", "body"]
    # The master stores what a task stores of its own, a moment after the task has gone on.
    wait_until("the state set by hand", lambda: quiet.state(ignored) == ("SUCCESS", "by hand"), 60)


@pytest.mark.row("ST2", "EX1")
def test_a_tracked_task_sees_that_it_has_started(quiet: Scene) -> None:
    sent = quiet.send("tracked")
    quiet.wait(sent, "after_return")
    assert quiet.of(sent)[0].details["state"] in ("PENDING", "STARTED")


@pytest.mark.row("ST14", "ST15", "HA3")
def test_ignored_results(quiet: Scene) -> None:
    unstored = quiet.client.send_task("unstored", ("return",), queue="signalled", ignore_result=True).id
    lines = quiet.wait(unstored, "after_return")
    assert lines[2].details == {"retval": 42, "state": "PENDING", "me": unstored}
    kept = quiet.client.send_task("errors_kept", ("raise",), queue="signalled", ignore_result=True).id
    quiet.worker.wait_for_line(rf"errors_kept\[{kept}\] raised")
    with pytest.raises(ValueError, match="boom"):
        quiet.client.AsyncResult(kept).get(timeout=60)


@pytest.mark.row("HA3")
def test_a_handler_that_raises_changes_nothing(quiet: Scene) -> None:
    sent = quiet.send("act", "return", kwargs={"handler_raises": 1})
    quiet.wait(sent, "after_return")
    quiet.worker.wait_for_line(r"Handler Recording.on_success raised")
    assert quiet.state(sent) == ("SUCCESS", 42)


@pytest.mark.row("HA3")
def test_an_outcome_stands_although_its_child_dies_in_a_handler(quiet: Scene) -> None:
    """Also one that would otherwise run again: acknowledged late, requeued when its worker is lost."""
    mark = quiet.worker.mark()
    sent = quiet.send("late", "return", kwargs={"handler_dies": 1})
    quiet.worker.wait_for_line(r"ended in the handlers of a task whose outcome is stored", since=mark)
    quiet.wait(quiet.send("act"), "after_return")
    assert quiet.names(sent) == ["before_start", "body", "on_success"]
    assert quiet.state(sent) == ("SUCCESS", 42)


@pytest.mark.row("HA4")
@pytest.mark.parametrize("name", ["act", "late", "counted"])
def test_a_retry_stands_although_its_child_dies_in_its_handler(quiet: Scene, name: str) -> None:
    """Its next attempt is on its way: another one, or the same message again, would run beside it."""
    mark = quiet.worker.mark()
    sent = quiet.send(name, "retry", kwargs={"retry_dies": 1})
    quiet.worker.wait_for_line(r"ended in the handlers of a task whose outcome is stored", since=mark)
    quiet.wait(sent, "after_return")
    quiet.wait(quiet.send("act"), "after_return")
    # In no order: the next attempt was sent before the handler is called.
    told = [what for what in quiet.names(sent) if what in ("body", "on_retry", "on_failure")]
    assert sorted(told) == ["body", "body", "on_retry"]
    assert quiet.state(sent) == ("SUCCESS", "second")


@pytest.mark.row("EX32")
def test_a_failure_keeps_nothing_of_its_body_alive(quiet: Scene) -> None:
    leaked = quiet.wait(quiet.send("act", "leak"), "after_return")[0].pid
    later = [quiet.wait(quiet.send("act"), "after_return") for _ in range(20)]
    seen = [line.details["alive"] for lines in later for line in lines if line.what == "body" and line.pid == leaked]
    assert seen
    assert not any(any(alive) for alive in seen)


@pytest.mark.row("EX5")
def test_a_redelivered_task_that_has_succeeded_is_not_run(quiet: Scene) -> None:
    sent = quiet.send("late", "done_before")
    quiet.worker.wait_for_line(rf"Task late\[{sent}\] has succeeded before")
    quiet.wait(quiet.send("act"), "after_return")
    assert quiet.names(sent) == ["before_start", "body"]
    assert quiet.state(sent) == ("SUCCESS", "before")


@pytest.mark.row("ST11")
def test_a_task_can_be_asked_to_stop(quiet: Scene) -> None:
    sent = quiet.send("abort_me")
    quiet.wait(sent, "body")
    handle = AbortableAsyncResult(sent, app=quiet.client)
    assert not handle.is_aborted()
    handle.abort()
    assert handle.get(timeout=60) == "stopped"


@pytest.mark.row("HA11")
def test_a_task_gets_the_request_of_its_own_message(quiet: Scene) -> None:
    lines = quiet.wait(quiet.send("act"), "after_return")
    assert lines[1].details["bound"] == "signalled"


def test_handlers_of_coroutines(quiet: Scene) -> None:
    sent = [quiet.send("waiting") for _ in range(20)]
    for each in sent:
        lines = quiet.wait(each, "after_return")
        assert [line.what for line in lines] == ["before_start", "on_success", "after_return"]
        assert lines[1].details == {"retval": "waited", "state": "SUCCESS", "me": each}


@pytest.mark.row("EX3", "HA5")
def test_a_result_that_does_not_encode_is_a_failure(quiet: Scene) -> None:
    sent = quiet.send("act", "unencodable")
    lines = quiet.wait(sent, "after_return")
    assert [line.what for line in lines] == ["before_start", "body", "on_failure", "after_return"]
    assert lines[2].details["einfo"][0] == "EncodeError"
    assert lines[2].details["einfo"][4] is False
    assert quiet.state(sent)[0] == "FAILURE"


@pytest.mark.row("CA17", "CV13", "PL11", "HA5", "HA6", "ST31", "EX33", "RU2")
@pytest.mark.parametrize(("task", "how", "error"), [
    ("limited", "hang", "TimeLimitExceeded"), ("act", "die", "WorkerLostError"), ("act", "exit", "WorkerLostError"),
])  # fmt: skip
def test_the_master_calls_them_for_a_task_that_ended_with_its_child(
    quiet: Scene, task: str, how: str, error: str
) -> None:
    link = {"task": "old_errback", "args": [], "kwargs": {}, "options": {"queue": "signalled"}, "immutable": False}
    called = {**link, "task": "errback"}
    sent = quiet.send(task, how, link_error=[link, called])
    quiet.wait(sent, "old_errback")
    lines = quiet.wait(sent, "after_return")
    told = [line for line in lines if line.what not in ("before_start", "body", "old_errback")]
    assert [line.what for line in told] == ["errback", "on_failure", "after_return"]
    assert {line.pid for line in told} == {quiet.worker.pid}
    assert told[1].details["exc"].startswith(error)
    assert told[1].details["einfo"][0] == error
    assert (told[1].details["state"], told[1].details["me"]) == ("FAILURE", sent)
    assert told[2].details["status"] == "FAILURE"


def _later(identifier: str) -> dict[str, Any]:
    """The next step of a chain, as it travels."""
    return {
        "task": "act",
        "args": [],
        "kwargs": {},
        "options": {"task_id": identifier, "queue": "signalled"},
        "subtask_type": None,
        "immutable": False,
    }


@pytest.mark.row("CV11", "PL11")
def test_the_rest_of_a_chain_fails_with_a_task_that_ended_with_its_child(quiet: Scene) -> None:
    quiet.send("plain_limited", chain=[_later("later-step")])
    with pytest.raises(Exception, match="1") as raised:
        quiet.client.AsyncResult("later-step").get(timeout=60)
    assert type(raised.value).__name__ == "TimeLimitExceeded"


@pytest.mark.row("CV11", "PL11")
@pytest.mark.parametrize("way", ["stay", "leave"])
def test_the_rest_of_a_chain_fails_also_where_a_handler_does_not_return(quiet: Scene, way: str) -> None:
    sent = quiet.send("deaf", "die", kwargs={"way": way}, chain=[_later(f"after-{way}")])
    with pytest.raises(Exception, match="SIGKILL") as raised:
        quiet.client.AsyncResult(f"after-{way}").get(timeout=60)
    assert type(raised.value).__name__ == "WorkerLostError"
    quiet.wait(sent, "on_failure")
    assert quiet.names(sent) == ["body", "on_failure"]
    quiet.wait(quiet.send("act", "return"), "after_return")
