"""Methods of the program's own on the way of a call: each is called wherever Celery calls it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app, recording
from turbo import current
from turbo.app.base import Turbo
from turbo.app.publish import options
from turbo.app.task import Task
from turbo.app.tasks.context import Context
from turbo.canvas import chord, group, signature
from turbo.child import followups
from turbo.contrib.abortable import AbortableAsyncResult, AbortableTask
from turbo.exceptions import Retry


class Tenant(Task):
    """Adds a header, and takes an option that no call has."""

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **given: Any) -> Any:
        given["headers"] = {**(given.get("headers") or {}), "tenant": given.pop("tenant", "acme")}
        return super().apply_async(args, kwargs, *rest, **given)

    def shadow_name(self, args: Any, kwargs: Any, given: Any) -> str:
        return f"shadow of {self.name}"


@pytest.fixture
def who(app: Turbo) -> Any:
    return app.task(name="who", base=Tenant)(lambda *args: args)


@pytest.fixture
def add(app: Turbo) -> Any:
    return app.task(name="add")(lambda x, y=0: x + y)


def said(sent: Recorder) -> list[tuple[Any, Any]]:
    return [(each.headers.get("tenant"), each.headers.get("shadow")) for each in sent.sent]


class TestTask:
    @pytest.mark.row("CA18")
    def test_apply_async_and_shadow_name_are_called_for_whatever_sends_the_task(
        self, app: Turbo, who: Any, add: Any, sent: Recorder
    ) -> None:
        step = json.loads(json.dumps(who.s(1)))
        who.delay(1)
        who.s(1).delay()
        app.tasks["who"].signature((1,)).apply_async()
        group(who.s(1)).apply_async()
        (who.s(1) | add.s(1)).apply_async()
        followups.send(app, step, (2,))
        followups.send(app, step, (2,), chain=[json.loads(json.dumps(add.s(1)))])
        app.task(name="told", base=Tenant)(lambda task_id: None)
        followups.after_failure(app, [{"task": "told"}], Context(id="i"), KeyError(), None)
        assert said(sent) == [("acme", "shadow of who")] * 7 + [("acme", "shadow of told")]
        assert json.loads(sent.sent[5].body)[0] == [2, 1], "the result goes before its own arguments"
        assert [each["task"] for each in json.loads(sent.sent[6].body)[2]["chain"]] == ["add"]
        assert sent.sent[7].headers["parent_id"] == "i"

    def test_what_follows_keeps_its_id(self, app: Turbo, who: Any, sent: Recorder) -> None:
        frozen = who.s(1)
        result = frozen.freeze()
        followups.send(app, json.loads(json.dumps(frozen)), (2,))
        assert sent.last.headers["id"] == result.id

    def test_one_that_was_put_in_afterwards_is_called_too(
        self, app: Turbo, add: Any, sent: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = Task.apply_async

        def watched(self: Any, *args: Any, **given: Any) -> Any:
            return original(self, *args, **{**given, "headers": {"watched": "yes"}})

        monkeypatch.setattr(Task, "apply_async", watched)
        followups.send(app, {"task": "add", "args": [1]}, (2,))
        assert sent.last.headers["watched"] == "yes"

    def test_a_retry_asks_for_its_signature_and_sends_by_it(self, app: Turbo, sent: Recorder) -> None:
        class Marking(Tenant):
            def signature_from_request(self, *args: Any, **given: Any) -> Any:
                return super().signature_from_request(*args, **given).set(priority=7)

        task = app.task(name="t", base=Marking, bind=True)(lambda self: self.retry(countdown=1, tenant="globex"))
        token = current.push(task, Context(id="i", called_directly=False, args=(), kwargs={}, is_eager=False))
        try:
            with pytest.raises(Retry):
                task.run()
        finally:
            current.pop(token)
        assert (sent.last.headers["tenant"], sent.last.properties.priority) == ("globex", 7)

    def test_the_handle_is_the_tasks_own(self, app: Turbo, add: Any, sent: Recorder) -> None:
        task = app.task(name="t", base=AbortableTask)(lambda: None)
        assert isinstance(task.delay(), AbortableAsyncResult)
        assert isinstance(task.s().freeze(), AbortableAsyncResult)
        assert isinstance((add.s(1) | task.si()).apply_async(), AbortableAsyncResult)


class TestApp:
    def test_a_send_task_of_its_own_sends_every_call(self) -> None:
        seen: list[tuple[str, Any, Any]] = []

        class Noting(Turbo):
            def send_task(self, name: str, args: Any = None, kwargs: Any = None, **given: Any) -> Any:
                seen.append((name, given.get("queue"), getattr(given.get("task_type"), "name", None)))
                return super().send_task(name, args, kwargs, **{**given, "headers": {"noted": "yes"}})

        app = Noting("noting", set_as_current=False)
        task = app.task(name="t", queue="q", ignore_result=True)(lambda *_: None)
        with recording() as sent:
            task.delay()
            task.s().apply_async(queue="other")
            followups.send(app, {"task": "t"}, (1,))
            followups.send(app, {"task": "elsewhere"}, (1,))
        assert seen == [("t", "q", "t"), ("t", "other", "t"), ("t", "q", "t"), ("elsewhere", None, None)]
        assert [each.headers.get("noted") for each in sent.sent] == ["yes"] * 4
        assert [each.headers["ignore_result"] for each in sent.sent] == [True, True, True, None]

    def test_an_eager_call_is_not_sent(self) -> None:
        class Refusing(Turbo):
            def send_task(self, *_: Any, **__: Any) -> Any:
                raise AssertionError

        app = Refusing("refusing", set_as_current=False, task_always_eager=True)
        assert app.task(lambda x: x).delay(5).get() == 5


class TestHeldOptions:
    """What a signature holds goes on, whatever it is; what is said in the call is checked."""

    @pytest.fixture(autouse=True)
    def nothing_said_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(options, "_named", set())

    @pytest.mark.row("CA2")
    def test_it_is_never_refused(self, app: Turbo, add: Any, sent: Recorder, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        odd = {"immutable": True}
        travelled = {"task": "add", "args": [1], "kwargs": {}, "options": odd, "subtask_type": None, "immutable": False}
        followups.send(app, travelled, (2,))
        followups.after_failure(app, [travelled], Context(id="i"), KeyError(), None)
        add.s(1).clone(**odd).delay()
        group([add.s(1), add.s(2)]).set(**odd).apply_async()
        (add.s(1) | add.s(2)).set(**odd).apply_async()
        chunks = add.chunks([(1, 2), (3, 4)], 1)
        chunks.group().set(**odd).apply_async()
        add.map([1]).clone(**odd).apply_async()
        elsewhere = signature("elsewhere", options=odd, app=app)
        elsewhere.apply_async()
        assert len(sent.sent) == 10
        assert not caplog.records, "Celery leaves it there itself"

    def test_a_chord_and_its_body(self, sent: Recorder) -> None:
        app = make_app(result_backend="redis://nowhere", task_always_eager=True)
        add = app.task(name="add")(lambda x, y=0: x + y)
        total = app.task(name="total")(sum)
        body = total.s().clone(immutable=True)
        assert chord([add.s(1).clone(immutable=True), add.s(2)], body).set(immutable=None).delay().get() == 3

    def test_one_without_effect_is_named_once(self, add: Any, sent: Recorder, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(3):
            add.s(1).set(colour="red").delay()
        assert [record.getMessage() for record in caplog.records] == [
            "Option colour= of a signature has no effect: calls have no such option"
        ]
        with pytest.raises(TypeError, match="colour="):
            add.s(1).apply_async(colour="red")

    def test_it_reaches_an_apply_async_that_takes_it(
        self, who: Any, sent: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        who.s().set(tenant="globex").delay()
        assert sent.last.headers["tenant"] == "globex"
        assert not caplog.records
