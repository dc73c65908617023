from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, deliver_args
from turbo import current
from turbo.app.base import Turbo
from turbo.app.task import Task
from turbo.app.tasks.context import Context
from turbo.exceptions import MaxRetriesExceededError, OperationalError, Reject, Retry
from turbo.protocol import content
from turbo.protocol.message import parse
from turbo.protocol.properties import Properties

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def task(app: Turbo, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(app, "now", lambda: NOW)
    return app.task(name="t", bind=True)(lambda self, x, y=0: None)


@contextmanager
def running(task: Task, exchange: str = "", routing_key: str = "origin", **headers: Any) -> Iterator[Context]:
    """Let ``task`` run a message that came from a broker."""
    table = {
        "task": "t", "id": "ID", "retries": 1, "root_id": "ROOT", "parent_id": None, "timelimit": [30, 20.5],
        "group": "G", "group_index": 4, "shadow": "sh", "origin": "gen1@h", "ignore_result": True,
        "expires": "2031-01-01T00:00:00+00:00", "tenant": "t1", "x-death": [{"count": 1}],
        "stamped_headers": ["s"], "stamps": {"s": "v"}, "replaced_task_nesting": 2,
    } | headers  # fmt: skip
    embed = {"callbacks": [{"task": "ok"}], "errbacks": None, "chain": [{"task": "next"}], "chord": {"task": "body"}}
    properties = Properties(headers=table, priority=6, reply_to="RT", correlation_id="ID", delivery_mode=2)
    message = parse(properties, [[1], {"y": 2}, embed])
    token = current.push(task, Context.from_message(message, deliver_args(exchange, routing_key), "celery@h"))
    try:
        yield task.request
    finally:
        current.pop(token)


@pytest.mark.row("RT1", "RT2", "RT19", "RT22")
def test_the_same_call_goes_where_it_came_from(task: Task, sent: Recorder) -> None:
    with running(task) as request, pytest.raises(Retry) as raised:
        task.retry(countdown=10)
    message = sent.last
    assert (message.exchange, message.routing_key) == ("", "origin")
    headers = message.headers
    assert {k: headers[k] for k in ("id", "root_id", "parent_id", "retries", "timelimit", "shadow", "origin")} == {
        "id": "ID", "root_id": "ROOT", "parent_id": "ID", "retries": 2, "timelimit": [30, 20.5], "shadow": "sh",
        "origin": "gen1@h",
    }  # fmt: skip
    assert (headers["group"], headers["group_index"], headers["replaced_task_nesting"]) == ("G", 4, 2)
    assert (headers["expires"], headers["eta"]) == ("2031-01-01T00:00:00+00:00", "2030-01-01T00:00:10+00:00")
    assert headers["ignore_result"] is True and headers["tenant"] == "t1" and "x-death" not in headers
    assert (headers["stamped_headers"], headers["stamps"]) == (["s"], {"s": "v"})
    properties = message.properties
    assert (properties.priority, properties.reply_to, properties.correlation_id) == (6, "RT", "ID")
    body = content.decode(message.body, "application/json", "utf-8", frozenset({"application/json"}))
    assert body == [
        [1], {"y": 2},
        {"callbacks": [{"task": "ok"}], "errbacks": None, "chain": [{"task": "next"}], "chord": {"task": "body"}},
    ]  # fmt: skip
    assert raised.value.when == 10 and [r.id for r in request.children] == ["ID"]


@pytest.mark.row("CA34")
def test_a_parent_is_kept(task: Task, sent: Recorder) -> None:
    with running(task, parent_id="PARENT"), pytest.raises(Retry):
        task.retry()
    assert sent.last.headers["parent_id"] == "PARENT"


@pytest.mark.row("RT2")
def test_other_exchanges_are_used_again(task: Task, sent: Recorder) -> None:
    with running(task, "topics", "a.b"), pytest.raises(Retry):
        task.retry()
    assert (sent.last.exchange, sent.last.routing_key) == ("topics", "a.b")
    with running(task), pytest.raises(Retry):
        task.retry(queue="elsewhere")
    assert sent.last.routing_key == "elsewhere"


@pytest.mark.row("RT6", "RT7")
@pytest.mark.parametrize(
    ("options", "eta"),
    [
        ({}, NOW + timedelta(seconds=180)),
        ({"countdown": 5}, NOW + timedelta(seconds=5)),
        ({"countdown": 0}, None),
        ({"eta": NOW + timedelta(days=1)}, NOW + timedelta(days=1)),
    ],
)
def test_when(task: Task, sent: Recorder, options: Any, eta: datetime | None) -> None:
    with running(task), pytest.raises(Retry):
        task.retry(**options)
    assert sent.last.headers["eta"] == (eta.isoformat() if eta else None)


@pytest.mark.row("RT3", "RT4")
def test_the_last_attempt(task: Task, sent: Recorder) -> None:
    with running(task, retries=2), pytest.raises(Retry):
        task.retry()
    with running(task, retries=3), pytest.raises(MaxRetriesExceededError, match=r"Can't retry t\[ID\]") as raised:
        task.retry()
    assert (raised.value.task_args, raised.value.task_kwargs) == ((1,), {"y": 2})
    assert len(sent.sent) == 1
    task.max_retries = None
    with running(task, retries=10_000), pytest.raises(Retry):
        task.retry()


@pytest.mark.row("RT5")
def test_given_up_with_the_reason(task: Task, sent: Recorder) -> None:
    with running(task, retries=3), pytest.raises(KeyError):
        task.retry(exc=KeyError("given"))
    with running(task, retries=3), pytest.raises(KeyError, match="given") as raised:
        try:
            raise ValueError("active")
        except ValueError:
            task.retry(exc=KeyError("given"))
    assert isinstance(raised.value.__cause__, ValueError)
    with running(task, retries=3), pytest.raises(ValueError, match="same") as same:
        try:
            raise ValueError("same")
        except ValueError as exc:
            task.retry(exc=exc)
    assert same.value.__cause__ is None
    assert sent.sent == []


@pytest.mark.row("RT9")
def test_a_limit_for_this_attempt_alone(task: Task, sent: Recorder) -> None:
    with running(task, retries=5), pytest.raises(Retry):
        task.retry(max_retries=6)
    with running(task, retries=5), pytest.raises(MaxRetriesExceededError):
        task.retry()
    assert task.max_retries == 3


@pytest.mark.row("RT8")
def test_without_raising(task: Task, sent: Recorder) -> None:
    with running(task):
        retry = task.retry(throw=False, exc=KeyError("why"), countdown=1)
    assert isinstance(retry, Retry) and retry.sig.args == (1,)  # type: ignore[attr-defined]
    assert str(retry) == "Retry in 1s: KeyError('why')" and len(sent.sent) == 1


@pytest.mark.row("RT10")
def test_called_directly_it_raises_the_reason(task: Task, sent: Recorder) -> None:
    with pytest.raises(KeyError):
        task.retry(exc=KeyError("why"))
    with pytest.raises(Retry, match="Task can be retried"):
        task.retry()
    assert sent.sent == []


@pytest.mark.row("RT18")
def test_what_could_not_be_sent_is_rejected(task: Task, sent: Recorder) -> None:
    sent.failure = OperationalError("no broker")
    with running(task), pytest.raises(Reject) as raised:
        task.retry()
    assert raised.value.requeue is False and raised.value.reason is sent.failure


@pytest.mark.row("RT21")
def test_other_arguments(task: Task, sent: Recorder) -> None:
    def arguments() -> Any:
        return content.decode(sent.last.body, "application/json", "utf-8", frozenset({"application/json"}))[:2]

    for given, wanted in (
        ({"args": [5, 6]}, [[5, 6], {}]),
        ({"args": [5]}, [[5], {"y": 2}]),
        ({"kwargs": {"x": 9}}, [[9], {}]),
        ({"args": [], "kwargs": {"x": 1}}, [[], {"x": 1}]),
    ):
        with running(task), pytest.raises(Retry):
            task.retry(**given)
        assert arguments() == wanted, given


@pytest.mark.row("WP20")
def test_a_message_silent_about_results_takes_the_tasks_word(task: Task, sent: Recorder) -> None:
    task.ignore_result = True
    with running(task, ignore_result=None), pytest.raises(Retry):
        task.retry()
    assert sent.last.headers["ignore_result"] is True
