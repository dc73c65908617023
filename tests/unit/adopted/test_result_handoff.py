"""Which results a child leaves to the master, and which Celery's backend stores at once."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task, chord, signals
from celery.backends.redis import RedisBackend

from turbo.adopted.result_handoff import ResultHandoff
from turbo.adopted.tracing import build_trace
from turbo.child.time_limits import SoftLimit
from turbo.ring.frames import unpack_store


class Page:
    detached = False

    def begin_body(self, seq: int) -> None:
        """Nobody reads it."""

    def soft_named(self) -> int:
        return 0


class Server(dict[bytes, Any]):
    """In place of Redis: what was written, in order."""

    def __init__(self, backend: RedisBackend) -> None:
        super().__init__()
        self.states: list[str] = []
        backend.get = self.get
        backend.set = self.write

    def write(self, key: bytes, value: str, **_: Any) -> None:
        self[key] = value
        self.states.append(json.loads(value)["status"])


class Stage:
    """An app whose backend writes to a dictionary, and its handover."""

    def __init__(self) -> None:
        self.app = Celery("proj", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)
        self.app.finalize()
        self.server = Server(self.app.backend)
        self.soft = SoftLimit(Page())  # type: ignore[arg-type]
        self.soft.running = 7
        self.handover = ResultHandoff(self.app, self.soft)

    def run(self, task: Any, **request: Any) -> bytes:
        """Trace one message as the executor does; what is left to the master."""
        build_trace(self.app, task, "w@h", self.soft)
        fields = {"id": "1", "delivery_info": {}, "is_eager": False, **request}
        self.handover.open("1", in_chord=request.get("chord") is not None)
        _, info, _, _ = task.__trace__("1", (), {}, fields)
        return self.handover.close(succeeded=info is None)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def add(stage: Stage) -> Any:
    @stage.app.task(shared=False, name="proj.add")
    def add() -> int:
        return 3

    return add


class TestHandover:
    def test_a_success_is_left_as_celery_would_have_stored_it(self, stage: Stage, add: Any) -> None:
        left = unpack_store(stage.run(add))

        assert stage.server == {}
        assert (left.task_id, left.guard) == ("1", True)
        request = SimpleNamespace(children=[], group=None, parent_id=None)
        stage.app.backend.store_result("1", 3, "SUCCESS", request=request)
        stored, handed = json.loads(stage.server[b"celery-task-meta-1"]), json.loads(left.payload)
        assert stored.pop("date_done") >= handed.pop("date_done")
        assert handed == stored

    def test_a_failure_is_stored_at_once(self, stage: Stage) -> None:
        @stage.app.task(shared=False, name="proj.fail")
        def fail() -> None:
            raise ValueError("x")

        assert stage.run(fail) == b""
        assert stage.server.states == ["FAILURE"]

    def test_nothing_is_left_where_results_are_ignored(self, stage: Stage, add: Any) -> None:
        assert stage.run(add, ignore_result=True) == b""
        assert stage.server == {}

    @pytest.mark.parametrize("signal", [signals.task_success, signals.task_postrun])
    def test_receivers_find_it_stored(self, stage: Stage, add: Any, signal: Any) -> None:
        seen = []

        def receiver(**_: Any) -> None:
            seen.append(list(stage.server.states))

        signal.connect(receiver)
        try:
            left = stage.run(add)
        finally:
            signal.disconnect(receiver)

        assert left == b""
        assert seen == [["SUCCESS"]]

    def test_a_part_of_a_chord_is_stored_before_it_is_counted(
        self, stage: Stage, add: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = []
        monkeypatch.setattr(
            stage.app.backend, "on_chord_part_return", lambda *_, **__: counted.append(list(stage.server.states))
        )

        assert stage.run(add, chord=chord([add.s()], add.s(), app=stage.app).body) == b""
        assert counted == [["SUCCESS"]]

    def test_what_a_body_stores_itself_is_stored_at_once(self, stage: Stage) -> None:
        @stage.app.task(shared=False, name="proj.own", bind=True)
        def own(self: Any) -> int:
            self.update_state(state="PROGRESS", meta={"done": 1})
            self.update_state(state="SUCCESS", meta=2)
            seen.append(list(stage.server.states))
            return 3

        seen: list[list[str]] = []
        assert json.loads(unpack_store(stage.run(own)).payload)["result"] == 3
        assert seen == [["PROGRESS", "SUCCESS"]]

    def test_a_large_result_is_stored_at_once(self, stage: Stage) -> None:
        @stage.app.task(shared=False, name="proj.large")
        def large() -> str:
            return "x" * 100_000

        assert stage.run(large) == b""
        assert stage.server.states == ["SUCCESS"]

    def test_a_state_after_the_success_finds_the_success(
        self, stage: Stage, add: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise RuntimeError("after the result")

        monkeypatch.setattr("celery.app.trace.saferepr", lambda *_, **__: fail())
        with pytest.warns(RuntimeWarning, match="outside body"):
            left = stage.run(add)

        assert left == b""
        assert stage.server.states == ["SUCCESS"], "Celery keeps a success that is there"

    def test_a_message_that_was_not_opened_is_not_ours(self, stage: Stage, add: Any) -> None:
        stage.run(add)
        stage.app.backend.store_result("1", 4, "SUCCESS")

        assert stage.server.states == ["SUCCESS"]

    def test_tasks_with_something_to_do_afterwards_do_not_suit(self, stage: Stage, add: Any) -> None:
        class After(Task):  # type: ignore[misc, unused-ignore]
            def on_success(self, *_: Any) -> None:
                """Look for the result."""

        class Elsewhere(Task):  # type: ignore[misc, unused-ignore]
            backend = "another"

        def make(base: type[Task]) -> Any:
            @stage.app.task(shared=False, name=f"proj.{base.__name__}", base=base)
            def nothing() -> None:
                """Do nothing."""

            return nothing

        assert stage.handover.suits(add)
        assert not stage.handover.suits(make(After))
        assert not stage.handover.suits(make(Elsewhere))
