"""The tasks that every app has, run here, and what they send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import celery
import pytest

from tests.unit.app.recording import Recorder, recording
from turbo import Turbo, states
from turbo.app.tasks import builtin_tasks
from turbo.exceptions import ChordError, OperationalError, Retry

NAMES = {
    "celery.accumulate", "celery.backend_cleanup", "celery.chain", "celery.chord", "celery.chord_unlock",
    "celery.chunks", "celery.group", "celery.map", "celery.starmap",
}  # fmt: skip


class Store:
    """A result store of known states."""

    chords = None

    def __init__(self, **found: tuple[str, Any]) -> None:
        self.found = found
        self.stored: list[tuple[str, str, str]] = []
        self.cleanups = 0

    def get_task_meta(self, task_id: str) -> dict[str, Any]:
        if task_id == "away":
            raise OperationalError("the store is away")
        status, result = self.found.get(task_id, (states.PENDING, None))
        return {"status": status, "result": result}

    def cleanup(self) -> None:
        self.cleanups += 1

    def wait_for(self, task_id: str, **_: Any) -> dict[str, Any]:
        return self.get_task_meta(task_id)

    def watch(self, task_id: str, found: Any) -> Any:
        found(self.get_task_meta(task_id))
        return lambda: None

    def store_result(self, task_id: str, result: object, state: str, *_: Any) -> None:
        self.stored.append((task_id, state, repr(result)))


class App(Turbo):
    """An app with such a store."""

    store = Store()

    @property
    def backend(self) -> Any:
        return self.store


@pytest.fixture
def sent() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.fixture
def app() -> App:
    made = App("builtins", set_as_current=False)

    @made.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name="double")
    def double(x: int) -> int:
        return 2 * x

    return made


def call(name: str, *args: Any, **options: Any) -> dict[str, Any]:
    return {"task": name, "args": args, "kwargs": {}, "options": options, "subtask_type": None, "immutable": False}


def names(sent: Recorder) -> list[tuple[str, Any]]:
    return [(message.headers["task"], json.loads(message.body)[0]) for message in sent.sent]


@pytest.mark.row("CV12")
def test_they_are_celerys(app: App) -> None:
    theirs = celery.Celery(set_as_current=False)
    # Beside them are shared tasks that other tests of this process have left with Celery, such as celery.ping.
    built_in = {name for name, task in theirs.tasks.items() if task.__module__ == "celery.app.builtins"}
    assert {name for name in app.tasks if name.startswith("celery.")} == NAMES == built_in
    own = app.tasks["celery.chord_unlock"]
    assert (own.max_retries, own.default_retry_delay, own.ignore_result) == (None, 1.0, True)
    theirs.close()


def test_what_the_program_calls_so_stays() -> None:
    app = Turbo("own", set_as_current=False)
    mine = app.task(name="celery.map")(lambda: "mine")
    assert app.tasks["celery.map"] is mine


@pytest.mark.row("CV12")
def test_maps(app: App) -> None:
    assert app.tasks["celery.map"](call("double"), [1, 2]) == [2, 4]
    assert app.tasks["celery.starmap"](call("add"), [[1, 2], [3, 4]]) == [3, 7]


@pytest.mark.row("CV12")
def test_chunks(app: App, sent: Recorder) -> None:
    app.tasks["celery.chunks"](call("add"), [[1, 2], [3, 4], [5, 6]], 2)
    assert [name for name, _ in names(sent)] == ["celery.starmap"] * 2
    assert [json.loads(message.body)[1]["it"] for message in sent.sent] == [[[1, 2], [3, 4]], [[5, 6]]]


@pytest.mark.row("CV16")
def test_accumulate(app: App) -> None:
    assert app.tasks["celery.accumulate"](1, 2) == (1, 2)
    assert app.tasks["celery.accumulate"]([1], [2], index=1) == [2]


def test_groups_of_old(app: App, sent: Recorder) -> None:
    result = (("g", None), [(("a", None), None), (("b", None), None)])
    members = [call("add", 1, task_id="a"), call("double", task_id="b")]
    app.tasks["celery.group"](members, result, "g", (5,))
    assert names(sent) == [("add", [5, 1]), ("double", [5])]
    assert {message.headers["group"] for message in sent.sent} == {"g"}


def test_chains_are_no_task(app: App) -> None:
    with pytest.raises(NotImplementedError):
        app.tasks["celery.chain"]()


def test_expired_results_are_deleted_by_the_store(app: App) -> None:
    assert app.backend.cleanups == 0
    assert app.tasks["celery.backend_cleanup"]() is None
    assert app.backend.cleanups == 1


@pytest.mark.row("CV8")
class TestUnlock:
    """The chord of a store that does not count: a task polls it."""

    RESULT = ((("a", None), None), (("b", None), None))

    def unlock(self, app: App, body: dict[str, Any], **found: tuple[str, Any]) -> None:
        app.store = Store(**found)
        app.tasks["celery.chord_unlock"].apply(("g", body), {"result": self.RESULT}, throw=True)

    def test_the_body_is_sent(self, app: App, sent: Recorder) -> None:
        self.unlock(app, call("double", task_id="body"), a=("SUCCESS", 1), b=("SUCCESS", 2))
        assert names(sent) == [("double", [[1, 2]])]

    def test_it_looks_again(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        task, asked = app.tasks["celery.chord_unlock"], []

        def retry(**options: Any) -> Retry:
            asked.append(options)
            return Retry()

        monkeypatch.setattr(task, "retry", retry)
        app.store = Store(a=("SUCCESS", 1))
        for interval in (None, 7):
            with pytest.raises(Retry):
                builtin_tasks.chord_unlock(task, "g", call("double"), interval, 3, self.RESULT)
        assert asked == [{"countdown": each, "max_retries": 3} for each in (1.0, 7)]

    def test_a_part_that_failed_fails_the_body(self, app: App, sent: Recorder) -> None:
        body = call("double", task_id="body", link_error=[call("note")])
        self.unlock(app, body, a=("FAILURE", {"exc_type": "KeyError", "exc_module": "builtins", "exc_message": ["k"]}),
                    b=("SUCCESS", 2))  # fmt: skip
        ((task_id, state, error),) = app.store.stored
        assert (task_id, state, error) == ("body", "FAILURE", repr(ChordError("Dependency a raised KeyError('k')")))
        assert names(sent) == [("note", ["body"])]

    def test_so_does_a_store_that_cannot_be_asked(self, app: App) -> None:
        app.store = Store()
        with pytest.raises(OperationalError):
            builtin_tasks.chord_unlock(
                app.tasks["celery.chord_unlock"], "g", call("double", task_id="body"), result=[(("away", None), None)]
            )
        assert [(task_id, state) for task_id, state, _ in app.store.stored] == [("body", "FAILURE")]
