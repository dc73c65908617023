"""Events that programs and tasks send themselves: task-sent, ``Task.send_event``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.monitor import Monitor
from tests.harness.processes import wait_until
from tests.integration.events.conftest import NODE, Site
from turbo import Turbo
from turbo.exceptions import EncodeError, TimeoutError


@pytest.fixture(scope="module", params=["native", "adopted"])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    """A site of turbo's."""
    return make_site(request.param)


@pytest.fixture
def program(make_site: Callable[[str], Site]) -> Iterator[tuple[Site, Turbo]]:
    """A program that sends calls by turbo, and its broker."""
    site = make_site("native")
    app = Turbo("program", broker=site.vhost, set_as_current=False)
    app.conf.task_send_sent_event = True
    yield site, app
    app.close()


@pytest.mark.row("EV16")
@pytest.mark.parametrize("options", [("-E",), (), ("--without-heartbeat", "--", "enable_remote_control=no")])
def test_a_task_says_how_far_it_is(site: Site, options: tuple[str, ...]) -> None:
    """Whether the worker sends task events of its own or not, or nothing at all."""
    with site.watched("-c", "1", *options) as (monitor, worker):
        identifier = site.send("progress", 3)
        own = ["task-progress"] * 3
        expected = ["task-received", "task-started", *own, "task-succeeded"] if options == ("-E",) else own
        events = [event for event in _wait_all(monitor, identifier, expected) if event["type"] == "task-progress"]
        assert [(event["step"], event["of"]) for event in events] == [(0, 3), (1, 3), (2, 3)]
        for event in events:
            assert event["hostname"] == NODE
            assert event["pid"] in {child.pid for child in worker.children()}
            assert {"clock", "timestamp", "utcoffset"} <= event.keys()
        assert [event["clock"] for event in events] == sorted({event["clock"] for event in events})


def _wait_all(monitor: Monitor, identifier: str, expected: list[str]) -> list[dict[str, Any]]:
    """Wait for these events; a Celery app's own come over a connection of the child, in no order to the others."""
    wait_until(f"{expected} are heard", lambda: sorted(monitor.types_of(identifier)) == sorted(expected), 60)
    return monitor.of(identifier)


@pytest.mark.row("EV10", "CF18")
def test_a_task_that_sends_another_tells_of_it(site: Site) -> None:
    with site.watched("-c", "1", env={"SENT_EVENTS": "1"}) as (monitor, _worker):
        first = site.send("chain", 7)
        site.wait_state(first, "SUCCESS")
        second = site.client.AsyncResult(first).result
        wait_until("task-sent is heard", lambda: monitor.types_of(second) == ["task-sent"], 60)
        (sent,) = monitor.of(second)
        assert (sent["root_id"], sent["parent_id"], sent["queue"]) == (first, first, "celery")


@pytest.mark.row("EV10", "CF18")
def test_what_a_client_tells_is_what_celerys_tells(program: tuple[Site, Turbo]) -> None:
    site, app = program
    site.client.conf.task_send_sent_event = True
    options = {"queue": "elsewhere", "retries": 2, "countdown": 30.0, "root_id": "a-root", "parent_id": "a-parent"}
    with Monitor(site.client) as monitor:
        ours = app.send_task("some.task", (1, "x"), {"why": "so"}, **options).id
        theirs = site.client.send_task("some.task", (1, "x"), {"why": "so"}, **options).id
        for identifier in (ours, theirs):
            monitor.wait_types(identifier, "task-sent")
        ((one,), (other,)) = monitor.of(ours), monitor.of(theirs)
    volatile = {"uuid", "timestamp", "local_received", "clock", "eta"}
    assert one.keys() == other.keys()
    assert {k: v for k, v in one.items() if k not in volatile} == {k: v for k, v in other.items() if k not in volatile}
    assert isinstance(one["eta"], str)


@pytest.mark.row("EV10")
def test_many_in_a_pipeline(program: tuple[Site, Turbo]) -> None:
    site, app = program
    with Monitor(site.client) as monitor:
        with app.pipeline():
            sent = [app.send_task("some.task", (number,)).id for number in range(50)]
        for identifier in sent:
            monitor.wait_types(identifier, "task-sent")


@pytest.mark.row("EV16")
def test_a_program_tells_monitors_something(program: tuple[Site, Turbo]) -> None:
    site, app = program
    with Monitor(site.client) as monitor:
        app.send_event("deploy-done", {"release": "7"})
        wait_until("it is heard", lambda: any(event["type"] == "deploy-done" for event in monitor.heard), 60)
        (event,) = monitor.heard
        assert event["release"] == "7"
        assert event["hostname"].startswith("gen")
    with pytest.raises(EncodeError):
        app.send_event("deploy-done", {"release": object()})


@pytest.mark.row("EV10")
def test_a_call_that_is_sent_does_not_fail_for_its_event(
    program: tuple[Site, Turbo], caplog: pytest.LogCaptureFixture
) -> None:
    _site, app = program
    app.conf.event_serializer = "no such serializer"
    with caplog.at_level(logging.WARNING):
        identifier = app.send_task("some.task").id
    assert f"Task some.task[{identifier}] is sent; its task-sent event could not be" in caplog.text


def test_a_program_receives_events_and_keeps_their_state(program: tuple[Site, Turbo]) -> None:
    _, app = program
    state = app.events.State()
    heard: list[str] = []
    handlers = {"custom-mine": lambda event: heard.append(event["note"]), "*": state.event}
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers=handlers, node_id="watch")
    watching = threading.Thread(target=receiver.capture, kwargs={"timeout": 60, "wakeup": False})
    watching.start()
    with app.events.default_dispatcher(hostname="me@here") as dispatcher:

        def told() -> bool:
            dispatcher.send("custom-mine", note="n")
            return bool(heard)

        wait_until("the receiver is bound", told, 60)
        dispatcher.send("task-received", uuid="an-id", name="proj.add")
        dispatcher.send("task-succeeded", uuid="an-id", result="3")
    wait_until("the end is known", lambda: "an-id" in state.tasks and state.tasks["an-id"].ready, 60)
    receiver.should_stop = True
    watching.join(60)
    task = state.tasks["an-id"]
    assert (set(heard), task.state, task.name, task.result) == ({"n"}, "SUCCESS", "proj.add", "3")
    assert task.worker.hostname == "me@here"


def test_a_receiver_gives_up_after_its_timeout(program: tuple[Site, Turbo]) -> None:
    with pytest.raises(TimeoutError, match="no event has come in 1 s"):
        program[1].events.Receiver().capture(timeout=1, wakeup=False)
