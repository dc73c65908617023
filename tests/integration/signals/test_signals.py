"""Signals in a real worker: in which process they are sent, in which order, with what; and receivers that misbehave."""

from __future__ import annotations

import json
import signal
import uuid

import pika
import pytest

from tests.harness.processes import wait_until
from tests.integration.signals.scene import Scene
from tests.integration.signals.signal_app import MAIN


def raw(scene: Scene, body: bytes, **headers: object) -> str:
    """Send a message that no client would."""
    identifier = str(uuid.uuid4())
    properties = pika.BasicProperties(
        headers={"id": identifier, "root_id": identifier, **headers},
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=identifier,
    )
    connection = pika.BlockingConnection(pika.URLParameters(scene.env["SIGNALS_BROKER"]))
    try:
        connection.channel().basic_publish("", MAIN, body, properties)
    finally:
        connection.close()
    return identifier


@pytest.mark.row("SG3", "SG4", "SG5", "SG9", "EX1")
def test_success(heard: Scene) -> None:
    sent = heard.send("act", "return", kwargs={"x": 1})
    lines = heard.wait(sent, "task_postrun")
    assert [line.what for line in lines] == [
        "task_received",
        "task_prerun",
        "before_start",
        "body",
        "on_success",
        "task_success",
        "after_return",
        "task_postrun",
    ]
    assert lines[0].pid == heard.worker.pid
    assert len({line.pid for line in lines[1:]}) == 1
    assert f"<Request: act[{sent}]" in lines[0].details["request"]
    assert lines[1].details["sender"] == "act"
    assert lines[1].details["args"] == "['return']"
    assert lines[1].details["kwargs"] == "{'x': 1}"
    assert lines[5].details == {"sender": "act", "result": "42"}
    assert (lines[7].details["retval"], lines[7].details["state"]) == ("42", "'SUCCESS'")


@pytest.mark.row("SG4", "SG6")
def test_failure(heard: Scene) -> None:
    sent = heard.send("act", "raise")
    lines = heard.wait(sent, "task_postrun")
    assert [line.what for line in lines][4:] == ["on_failure", "task_failure", "after_return", "task_postrun"]
    assert lines[5].details["exception"] == "ValueError('boom')"
    assert lines[5].details["traceback"].startswith("<traceback object")
    assert (lines[7].details["retval"], lines[7].details["state"]) == ("ValueError('boom')", "'FAILURE'")


@pytest.mark.row("SG7", "SG4", "SP6")
def test_retry(heard: Scene) -> None:
    sent = heard.send("act", "retry")
    lines = heard.wait(sent, "task_postrun", count=2)
    retry = [line for line in lines if line.what in ("on_retry", "task_retry")]
    assert [line.what for line in retry] == ["on_retry", "task_retry"]
    assert retry[1].details["reason"].startswith("Retry(")
    states = [line.details["state"] for line in lines if line.what == "task_postrun"]
    assert sorted(states) == ["'RETRY'", "'SUCCESS'"]


@pytest.mark.row("SP1", "SP3", "SG4", "SG6")
def test_neither(heard: Scene) -> None:
    ignored = heard.wait(heard.send("act", "ignore"), "task_postrun")
    assert [line.what for line in ignored][3:] == ["body", "task_postrun"]
    assert ignored[-1].details["state"] == "'IGNORED'"
    rejected = heard.wait(heard.send("act", "reject"), "task_postrun")
    assert [line.what for line in rejected][3:] == ["body", "task_failure", "task_postrun"]
    assert rejected[-1].details["state"] == "'REJECTED'"
    assert rejected[-2].details["exception"].startswith("reject requeue=False")


@pytest.mark.row("SG6", "PL11")
def test_a_task_that_ended_with_its_child(heard: Scene) -> None:
    sent = heard.send("plain_limited")
    lines = heard.wait(sent, "task_failure")
    assert lines[-1].pid == heard.worker.pid
    assert lines[-1].details["exception"] == "TimeLimitExceeded(1)"
    assert lines[-1].details["args"] == "[]"


@pytest.mark.row("SG8", "SG10")
def test_messages_that_do_not_run(heard: Scene) -> None:
    expired = heard.send("act", headers={"expires": "2020-01-01T00:00:00+00:00"})
    lines = heard.wait(expired, "task_revoked")
    assert lines[-1].details == {"sender": "act", "terminated": "False", "signum": "None", "expired": "True"}
    unknown = heard.send("nowhere.to.be.found")
    lines = heard.wait(unknown, "task_unknown")
    assert lines[-1].details["name"] == "'nowhere.to.be.found'"
    assert lines[-1].details["exc"] == "KeyError('nowhere.to.be.found')"
    assert "Consumer object" in lines[-1].details["sender"]
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    raw(heard, json.dumps([[], [], embed]).encode(), task="act")
    found = heard.wait_for("task_rejected")[-1]  # its id is not the receiver's to know
    assert "InvalidTaskError" in found.details["exc"]
    assert found.details["message"].startswith("<Message: application/json of ")
    assert {line.pid for line in heard.record() if line.what in ("task_revoked", "task_unknown", "task_rejected")} == {
        heard.worker.pid
    }


@pytest.mark.row("EX4", "SG10")
def test_what_comes_after_the_body_is_no_fault_of_the_task(heard: Scene) -> None:
    sent = heard.send("act", link=[{"task": "act", "args": [], "kwargs": {}, "options": {"countdown": "soon"}}])
    lines = heard.wait(sent, "task_postrun")
    assert "task_internal_error" in [line.what for line in lines]
    assert heard.state(sent)[0] == "FAILURE"
    heard.worker.wait_for_line("RuntimeWarning: Exception raised outside body")
    heard.wait(heard.send("act"), "task_success")


@pytest.mark.row("SG12", "SG13", "SG14", "SG17", "SG18", "LG7", "PL22")
def test_the_life_of_a_worker(heard: Scene) -> None:
    """The last test with this worker: it ends."""
    heard.wait(heard.send("act"), "task_success")

    def both_began() -> bool:
        began = {line.pid for line in heard.record() if line.what == "worker_process_init"}
        return len(pids := heard.worker.pool_pids()) == 2 and began >= {*pids}

    # A child that has just been replaced may be on its way.
    wait_until("both children have begun", both_began, 60)
    heard.worker.send_signal(signal.SIGTERM)
    heard.worker.wait()
    of_worker = [line for line in heard.record() if not line.what.startswith(("task_", "request."))]
    lines = [line for line in of_worker if line.task_id is None]
    names = [line.what for line in lines]
    assert [name for name in names if "process" not in name] == [
        "celeryd_init",
        "import_modules",
        "after_setup_logger",
        "after_setup_task_logger",
        "worker_init",
        "celeryd_after_setup",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    ]
    processes = [line for line in lines if "process" in line.what]
    for child in {line.pid for line in processes} - {line.pid for line in processes if line.what.endswith("init")}:
        raise AssertionError(f"{child} has ended and not begun")
    ended = [line for line in processes if line.what == "worker_process_shutdown"]
    assert len(ended) == 2
    assert all(line.details["pid"] == str(line.pid) and line.details["exitcode"] == "0" for line in ended)
    by_name = {line.what: line for line in lines}
    assert by_name["celeryd_init"].details["sender"].startswith("'celery@")
    assert by_name["worker_shutting_down"].details["how"] == "'Warm'"
    assert by_name["worker_shutting_down"].details["sig"] == "'SIGTERM'"
    assert {line.pid for line in lines if "process" not in line.what} == {heard.worker.pid}
    assert by_name["after_setup_logger"].details["loglevel"] == "20"


@pytest.mark.row("SG19")
def test_bad_receivers(bad: Scene) -> None:
    """Those that raise are logged; one that blocks is given up, and the worker goes on."""
    sent = [bad.send("act") for _ in range(5)]
    for each in sent:
        bad.wait(each, "after_return")
        wait_until(f"the result of {each}", lambda each=each: bad.state(each) == ("SUCCESS", 42), 60)  # type: ignore[misc]
    bad.worker.wait_for_line("Signal handler .*complain.* raised: RuntimeError")
    bad.worker.wait_for_line("A receiver of worker_ready takes longer than", 60)
    bad.worker.wait_for_line("task_received is not sent any more", 60)


@pytest.mark.row("SG17", "LG6")
def test_logging_is_taken_over(bad: Scene) -> None:
    assert "MINE" in bad.worker.output
    assert "MainProcess]" not in bad.worker.output
