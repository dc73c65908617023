from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app
from turbo import current
from turbo.amqp.topology import Queue
from turbo.app.base import Turbo
from turbo.app.publish import publishing
from turbo.app.tasks.context import Context
from turbo.exceptions import EncodeError, QueueNotFound
from turbo.policy.publish_retry import PublishRetry
from turbo.protocol.compression import decompress

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def clocked(app: Turbo, monkeypatch: pytest.MonkeyPatch) -> Turbo:
    monkeypatch.setattr(app, "now", lambda: NOW)
    return app


def body(sent: Recorder) -> Any:
    return json.loads(sent.last.body)


@pytest.mark.row("CA1", "CA2", "CA19", "WP3", "WP12", "WP15")
def test_a_plain_call(app: Turbo, sent: Recorder) -> None:
    fun = app.task(name="proj.add")(lambda x, y=0: None)
    result = fun.delay(1, y=2)
    message = sent.last
    assert (message.exchange, message.routing_key, message.mandatory) == ("", "celery", False)
    assert [q.name for q in message.declare] == ["celery"]
    assert body(sent) == [[1], {"y": 2}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    properties = message.properties
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.delivery_mode, properties.priority, properties.expiration) == (2, 0, None)
    assert properties.correlation_id == result.id == message.headers["id"]
    assert properties.reply_to == app.thread_oid
    assert message.headers == {
        "lang": "py", "task": "proj.add", "id": result.id, "shadow": None, "eta": None, "expires": None,
        "group": None, "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": result.id,
        "parent_id": None, "argsrepr": "(1,)", "kwargsrepr": "{'y': 2}", "origin": app.sending.publishing.origin(),
        "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    assert not result.ignored
    assert fun.apply_async([3], task_id="mine").id == "mine"
    assert result.id != fun.delay(1).id


@pytest.mark.row("CA3")
def test_by_name_without_registration(app: Turbo, sent: Recorder) -> None:
    app.send_task("elsewhere", (1,), {"k": 2}, queue="q", priority=3)
    assert sent.last.headers["task"] == "elsewhere" and sent.last.routing_key == "q"
    assert sent.last.properties.priority == 3
    assert sent.last.headers["ignore_result"] is None
    assert not app.finalized
    app.send_task("elsewhere", (), {}, 5, None, "mine")
    assert sent.last.headers["id"] == "mine" and sent.last.headers["eta"] is not None


@pytest.mark.row("CA3")
def test_by_name_a_registered_tasks_options_hold(app: Turbo, sent: Recorder) -> None:
    app.task(name="known", queue="own", time_limit=9, priority=4)(lambda: None)
    app.send_task("known")
    assert (sent.last.routing_key, sent.last.headers["timelimit"]) == ("own", [9, None])
    app.send_task("known", queue="other", time_limit=None)
    assert (sent.last.routing_key, sent.last.headers["timelimit"]) == ("other", [None, None])


@pytest.mark.row("CA6", "CA7")
def test_countdown_and_eta(clocked: Turbo, sent: Recorder) -> None:
    clocked.send_task("t", countdown=90)
    assert sent.last.headers["eta"] == "2030-01-01T12:01:30+00:00"
    clocked.send_task("t", countdown=0)
    assert sent.last.headers["eta"] is None
    clocked.send_task("t", eta=datetime(2031, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    assert sent.last.headers["eta"] == "2031-01-01T00:00:00+01:00"
    with pytest.raises(ValueError, match="countdown"):
        clocked.send_task("t", countdown=-(2**40))


@pytest.mark.row("CA8", "WP12")
@pytest.mark.parametrize(
    ("given", "header", "ttl"),
    [
        (60, "2030-01-01T12:01:00+00:00", "60000"),
        (1.5, "2030-01-01T12:00:01.500000+00:00", "1500"),
        (NOW + timedelta(seconds=5), "2030-01-01T12:00:05+00:00", "5000"),
        ("2030-01-01T12:00:07+00:00", "2030-01-01T12:00:07+00:00", "7000"),
        (datetime(2099, 1, 1, tzinfo=UTC), "2099-01-01T00:00:00+00:00", None),
    ],
)
def test_expires(clocked: Turbo, sent: Recorder, given: Any, header: str, ttl: str | None) -> None:
    clocked.send_task("t", expires=given)
    assert (sent.last.headers["expires"], sent.last.properties.expiration) == (header, ttl)


@pytest.mark.row("CA8")
def test_what_expired_already_has_no_time_to_live(
    clocked: Turbo, sent: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        clocked.send_task("t", expires=NOW - timedelta(seconds=3))
    assert sent.last.properties.expiration == "0" and "in the past" in caplog.text


def test_times_without_utc_have_the_apps_zone(sent: Recorder) -> None:
    app = make_app(enable_utc=False, timezone="Asia/Tokyo")
    app.send_task("t", countdown=10)
    assert sent.last.headers["eta"].endswith("+09:00")


@pytest.mark.row("CA14", "CA15", "WP6", "WP11", "CF12")
def test_serializer_and_compression(sent: Recorder) -> None:
    app = make_app(task_serializer="yaml", task_compression="gzip")
    fun = app.task(name="f", serializer="pickle", compression="bzip2")(lambda *a: None)
    app.send_task("t")
    assert sent.last.properties.content_type == "application/x-yaml"
    assert sent.last.headers["compression"] == "application/x-gzip"
    fun.delay(1)
    assert sent.last.properties.content_type == "application/x-python-serialize"
    assert sent.last.headers["compression"] == "application/x-bz2"
    fun.apply_async((1,), serializer="json", compression="zlib")
    assert json.loads(decompress(sent.last.body, sent.last.headers["compression"], 10_000))[0] == [1]


@pytest.mark.row("CA30", "CA36")
def test_what_cannot_be_serialized_is_not_sent(app: Turbo, sent: Recorder) -> None:
    with pytest.raises(EncodeError):
        app.send_task("t", (object(),))
    assert sent.sent == []


@pytest.mark.row("CA23", "CA24", "CA2")
def test_arguments_are_checked_at_the_call(app: Turbo, sent: Recorder) -> None:
    fun = app.task(name="f", bind=True)(lambda self, x: None)
    with pytest.raises(TypeError, match="missing 1 required"):
        fun.delay()
    with pytest.raises(TypeError, match="list or tuple"):
        app.send_task("t", "text")
    app.task(name="g", typing=False)(lambda: None).delay(1, 2, 3)
    assert len(sent.sent) == 1
    lax = make_app(strict_typing=False)
    lax.task(name="h")(lambda: None).delay(1)
    assert len(sent.sent) == 2


@pytest.mark.row("CA20")
def test_time_limits(app: Turbo, sent: Recorder) -> None:
    fun = app.task(name="f", time_limit=10, soft_time_limit=5)(lambda: None)
    fun.delay()
    assert sent.last.headers["timelimit"] == [10, 5]
    fun.apply_async(time_limit=7, soft_time_limit=1.5)
    assert sent.last.headers["timelimit"] == [7, 1.5]
    with pytest.raises(ValueError, match="soft_time_limit"):
        app.task(name="g", time_limit=1, soft_time_limit=2)(lambda: None).delay()


@pytest.mark.row("CA21", "WP20")
def test_ignore_result(sent: Recorder) -> None:
    app = make_app(task_ignore_result=True)
    fun = app.task(name="f")(lambda: None)
    assert fun.delay().ignored and sent.last.headers["ignore_result"] is True
    assert not fun.apply_async(ignore_result=False).ignored
    assert sent.last.headers["ignore_result"] is False


@pytest.mark.row("CA16", "CA17", "CA18", "CA22", "WP16", "WP17", "WP18")
def test_what_else_travels(app: Turbo, sent: Recorder) -> None:
    fun = app.task(name="f")(lambda *a: None)
    fun.apply_async(
        (1,), link={"task": "ok"}, link_error=[{"task": "bad"}], chain=[{"task": "next"}], chord={"task": "body"},
        shadow="alias", argsrepr="(<secret>)", kwargsrepr="{}", headers={"tenant": 5}, reply_to="elsewhere",
        group_id="G", group_index=2, root_id="R", parent_id="P", retries=3, replaced_task_nesting=1,
        stamped_headers=["stamp"], stamp="value", delivery_mode="transient", mandatory=True,
    )  # fmt: skip
    headers = sent.last.headers
    assert body(sent)[2] == {
        "callbacks": [{"task": "ok"}], "errbacks": [{"task": "bad"}], "chain": [{"task": "next"}],
        "chord": {"task": "body"},
    }  # fmt: skip
    assert (headers["shadow"], headers["argsrepr"], headers["kwargsrepr"], headers["tenant"]) == (
        "alias", "(<secret>)", "{}", 5,
    )  # fmt: skip
    assert (headers["group"], headers["group_index"], headers["root_id"], headers["parent_id"]) == ("G", 2, "R", "P")
    assert (headers["retries"], headers["replaced_task_nesting"]) == (3, 1)
    assert (headers["stamped_headers"], headers["stamps"]) == (["stamp"], {"stamp": "value"})
    assert (sent.last.properties.reply_to, sent.last.properties.delivery_mode) == ("elsewhere", 1)
    assert sent.last.mandatory


@pytest.mark.row("CA18")
def test_a_task_may_choose_its_shadow(app: Turbo, sent: Recorder) -> None:
    fun = app.task(name="f", shadow_name=lambda self, args, kwargs, options: f"f of {args[0]}")(lambda x: None)
    fun.delay("me")
    assert sent.last.headers["shadow"] == "f of me"


@pytest.mark.row("WP16", "CF30")
def test_arguments_are_shown_as_deep_as_the_setting_says(sent: Recorder) -> None:
    make_app(task_repr_maxlevels=1).send_task("t", ([[1]],))
    assert sent.last.headers["argsrepr"] == "([...],)"


class TestInsideATask:
    @pytest.fixture(autouse=True)
    def running(self, app: Turbo) -> Any:
        self.outer = app.task(name="outer")(lambda: None)
        self.request = Context(
            id="OUTER", root_id="ROOT", called_directly=False, delivery_info={"priority": 7}, hostname="h"
        )
        token = current.push(self.outer, self.request)
        yield
        current.pop(token)

    @pytest.mark.row("CA34")
    def test_root_and_parent(self, app: Turbo, sent: Recorder) -> None:
        app.send_task("t")
        assert (sent.last.headers["root_id"], sent.last.headers["parent_id"]) == ("ROOT", "OUTER")
        assert sent.last.properties.priority == 0

    @pytest.mark.row("CA34")
    def test_a_function_called_in_between_does_not_count(self, app: Turbo, sent: Recorder) -> None:
        app.task(name="inner")(lambda: app.send_task("t"))()
        assert sent.last.headers["parent_id"] == "OUTER"

    @pytest.mark.row("CF12", "CV19")
    def test_priority_is_inherited_when_asked(self, app: Turbo, sent: Recorder) -> None:
        app.conf.task_inherit_parent_priority = True
        app.send_task("t")
        app.send_task("t", priority=1)
        assert [m.properties.priority for m in sent.sent] == [7, 1]

    @pytest.mark.row("CA33")
    def test_children(self, app: Turbo, sent: Recorder) -> None:
        result = app.send_task("t")
        app.send_task("t", add_to_parent=False)
        assert self.request.children == [result]
        self.outer.trail = False
        app.send_task("t")
        assert self.request.children == [result]


@pytest.mark.row("CA11", "CF7")
def test_unknown_queues(sent: Recorder) -> None:
    app = make_app(task_create_missing_queues=False, task_queues=[Queue("only")], task_default_queue="only")
    app.send_task("t")
    assert sent.last.routing_key == "only"
    with pytest.raises(QueueNotFound):
        app.send_task("t", queue="other")


def test_settings_changed_later_hold(app: Turbo, sent: Recorder) -> None:
    app.send_task("t")
    app.conf.task_default_queue = "later"
    app.send_task("t")
    assert [m.routing_key for m in sent.sent] == ["celery", "later"]


def test_each_thread_and_process_is_a_caller_of_its_own(app: Turbo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = app.thread_oid
    assert app.thread_oid == first
    monkeypatch.setattr(publishing.os, "getpid", lambda: 1)
    assert app.thread_oid != first
    assert app.sending.publishing.origin().startswith("gen1@")


def test_the_result_reader_follows_the_settings(app: Turbo) -> None:
    first = app.backend
    app.conf.task_acks_late = True
    assert app.backend is first
    app.conf.result_backend = "rpc://"
    assert app.backend.as_uri() == "rpc://"
    app.after_fork()
    app.close()


def test_a_setting_that_changes_while_the_settings_are_read_holds_for_the_next_call(sent: Recorder) -> None:
    class Routes:
        """Read after the serializer, which another thread changes just then."""

        @property
        def task_repr_maxlevels(self) -> int:
            app.conf.task_serializer = "yaml"
            return 3

    app = make_app(config_source=Routes())
    app.send_task("first")
    app.send_task("second")
    assert sent.last.properties.content_type == "application/x-yaml"


class TestSettingsOfEveryMessage:
    @pytest.mark.row("CF6", "CF12")
    def test_what_it_is(self, sent: Recorder) -> None:
        app = make_app(task_default_delivery_mode="transient", task_default_priority=3)
        app.task(name="t")(lambda: None).delay()
        assert (sent.last.properties.delivery_mode, sent.last.properties.priority) == (1, 3)

    @pytest.mark.row("CF11", "CA10")
    def test_how_often_it_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tried: list[PublishRetry] = []
        app = make_app(task_publish_retry_policy={"max_retries": 7, "interval_start": 1})
        monkeypatch.setattr(app.sending.publishing, "publish", lambda *given, **_: tried.append(given[4]))
        app.send_task("t")
        app.send_task("t", retry_policy={"interval_start": 2})
        app.send_task("t", retry=False)
        app.conf.task_publish_retry = False
        app.send_task("t")
        app.send_task("t", retry=True)
        assert [each.max_retries for each in tried] == [7, 7, 0, 0, 7]
        assert [each.interval_start for each in tried[:2]] == [1, 2]


@pytest.mark.row("CF30")
def test_a_setting_asks_for_another_attempt_when_a_child_is_lost() -> None:
    app = make_app(task_retry_on_worker_lost=True)
    app.task(name="t", shared=False)(lambda: None)
    assert app.task_options()["t"].retry_on_worker_lost
