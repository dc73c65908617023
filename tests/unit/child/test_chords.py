"""The end of a chord's last part: the body is sent, or its failure is reported to all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, recording
from turbo import Turbo, states
from turbo.backends.redis.chords import Part, Standing
from turbo.child.chords import Chords
from turbo.exceptions import ChordError, EncodeError, OperationalError
from turbo.protocol.content import encode
from turbo.protocol.faults import to_wire

WRONG = ValueError("wrong")


class Store:
    """A result store that counts in this process."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.gave: dict[str, dict[str, tuple[str, Any]]] = {}
        self.structures: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self.traces: dict[str, str | None] = {}
        self.closed: list[str] = []
        self.given_up: list[str] = []
        self.away = 0
        #: So often somebody else has the chord.
        self.claimed = 0
        self.chords = self

    def encode(self, part: Part, state: str, result: object) -> bytes:
        return encode([part.task_id, state, result], "json")[0]

    def count(self, part: Part, gave: bytes) -> Standing:
        if self.away:
            self.away -= 1
            raise OperationalError("away")
        task_id, state, result = json.loads(gave)
        counted = self.gave.setdefault(part.group_id, {})
        counted[task_id] = state, result
        if len(counted) < self.sizes[part.group_id]:
            return Standing.OPEN
        self.claimed -= 1
        return Standing.THEIRS if self.claimed >= 0 else Standing.OURS

    def results(self, group_id: str) -> list[tuple[str, str, Any]]:
        return [(task_id, *rest) for task_id, rest in self.gave[group_id].items()]

    def restore_group(self, group_id: str) -> Any:
        return self.structures.get(group_id)

    def close(self, part: Part) -> None:
        self.closed.append(part.group_id)

    def give_up(self, part: Part) -> None:
        self.given_up.append(part.group_id)

    def store_result(self, task_id: str, result: object, state: str, trace: str | None, request: object = None) -> None:
        assert state == states.FAILURE
        self.failures[task_id] = f"{type(result).__name__}: {result}"
        self.traces[task_id] = trace

    def wait_for(self, task_id: str, timeout: float) -> dict[str, Any]:
        return {"status": "SUCCESS", "result": f"{task_id} as stored"}


class App(Turbo):
    """An app with such a store."""

    store: Store

    @property
    def backend(self) -> Any:
        return self.store


class Scene:
    """The parts of one chord, ``g``, as they end."""

    def __init__(self, sent: Recorder) -> None:
        self.app = App("chords", set_as_current=False)
        self.app.store = self.store = Store({"g": 2, "outer": 1})
        self.chords = Chords(self.app)
        self._sent = sent
        self.body: dict[str, Any] = call("total", task_id="body")

    def message(self, task_id: str, **fields: Any) -> Any:
        index = int(task_id[-1]) if task_id[-1].isdigit() else None
        usual = {"id": task_id, "group": "g", "group_index": index, "chord": self.body, "chain": None}
        return SimpleNamespace(**{**usual, **fields})

    def succeed(self, task_id: str, result: object, **fields: Any) -> list[Any]:
        message = self.message(task_id, **fields)
        return self.chords.succeeded(message, self.chords.encoded(message, result))

    def fail(self, task_id: str, error: BaseException = WRONG, state: str = states.FAILURE, **fields: Any) -> list[Any]:
        return self.chords.failed(self.message(task_id, **fields), error, state)

    @property
    def sent(self) -> list[tuple[str, Any]]:
        return [(each.headers["task"], json.loads(each.body)[0]) for each in self._sent.sent]

    @property
    def ids(self) -> list[str]:
        return [each.headers["id"] for each in self._sent.sent]


def call(task: str, *args: Any, kind: str | None = None, kwargs: Any = None, **options: Any) -> dict[str, Any]:
    return {"task": task, "args": args, "kwargs": kwargs or {}, "options": options, "subtask_type": kind,
            "immutable": False}  # fmt: skip


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("turbo.child.chords.time.sleep", lambda _seconds: None)
    with recording() as sent:
        yield Scene(sent)


def test_the_body_is_sent_and_the_counters_go_when_the_broker_has_it(scene: Scene) -> None:
    assert scene.succeed("p0", 1) == []
    (close,) = scene.succeed("p1", 2)
    assert (scene.sent, scene.ids, scene.store.closed) == ([("total", [[1, 2]])], ["body"], [])
    close(True)
    assert (scene.store.closed, scene.store.failures) == (["g"], {})


def test_nothing_is_sent_when_somebody_else_has_carried_it_on_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.store, "results", lambda _group_id: [])
    scene.succeed("p0", 1)
    assert (scene.succeed("p1", 2), scene.sent, scene.store.failures) == ([], [], {})


def test_a_body_that_the_broker_does_not_take_fails(scene: Scene) -> None:
    scene.succeed("p0", 1)
    (close,) = scene.succeed("p1", 2)
    close(False)
    assert scene.store.failures == {"body": "ChordError: Callback error: not taken by the broker"}
    assert (scene.store.closed, scene.store.given_up) == ([], ["g"])


def test_so_does_one_that_cannot_be_sent(scene: Scene) -> None:
    scene.body = call("total", task_id="body", serializer="nobody's")
    scene.succeed("p0", 1)
    for close in scene.succeed("p1", 2):
        close(True)
    assert scene.store.failures["body"].startswith("ChordError: Callback error: EncodeError(")
    assert scene.store.given_up == ["g"]


def test_the_store_is_waited_for(scene: Scene) -> None:
    scene.store.away = 3
    scene.succeed("p0", 1)
    scene.store.away = 3
    assert len(scene.succeed("p1", 2)) == 1


def test_who_else_has_claimed_the_chord_may_have_been_killed(scene: Scene) -> None:
    scene.succeed("p0", 1)
    scene.store.claimed = 3
    assert len(scene.succeed("p1", 2)) == 1
    assert scene.store.claimed < 0 and scene.sent


def test_what_cannot_be_carried_is_known_before_anything_is_counted(scene: Scene) -> None:
    with pytest.raises(EncodeError):
        scene.chords.encoded(scene.message("p0"), object())


def test_values_are_arranged_as_the_header_was(scene: Scene) -> None:
    inner = [["i", None], [[["p0", None], None], [["else", None], None]]]
    scene.store.structures["g"] = [["g", None], [[["p1", None], None], inner]]
    scene.succeed("p0", 1)
    scene.succeed("p1", 2)
    assert scene.sent == [("total", [[2, [1, "else as stored"]]])]


@pytest.mark.row("CV10")
class TestBroken:
    """One part did not succeed."""

    def break_it(self, scene: Scene, **options: Any) -> None:
        scene.body["options"].update(options)
        scene.succeed("p0", 1)
        for close in scene.fail("p1"):
            close(True)
        assert scene.store.given_up[-1:] == ["g"]

    REASON = "ChordError: Dependency p1 raised ValueError('wrong')"

    def test_the_body_fails(self, scene: Scene) -> None:
        self.break_it(scene, link_error=[call("note")])
        assert scene.store.failures == {"body": self.REASON}
        assert scene.sent == [("note", ["body"])]

    def test_the_part_that_failed_need_not_be_the_last(self, scene: Scene) -> None:
        scene.fail("p0")
        scene.succeed("p1", 1)
        assert scene.store.failures == {"body": self.REASON.replace("p1", "p0")}

    def test_a_revoked_part_breaks_it_too(self, scene: Scene) -> None:
        scene.succeed("p0", 1)
        scene.fail("p1", state=states.REVOKED)
        assert scene.store.failures == {"body": self.REASON}

    def test_what_follows_the_body_fails(self, scene: Scene) -> None:
        inner = call("celery.chord", kind="chord", kwargs={"header": [], "body": call("x", task_id="later-body")})
        self.break_it(scene, chain=[call("b", task_id="last"), inner, call("a", task_id="next")])
        assert scene.store.failures == dict.fromkeys(("body", "next", "later-body", "last"), self.REASON)

    def test_a_chord_around_it_fails(self, scene: Scene) -> None:
        outer = call("total", task_id="outer-body")
        self.break_it(scene, chord=outer, group_id="outer", group_index=0)
        assert scene.store.failures["outer-body"].startswith("ChordError: Dependency body raised ChordError(")
        assert "outer" in scene.store.given_up

    def test_of_a_body_that_is_a_group_each_member_fails(self, scene: Scene) -> None:
        members = [call("a", task_id="m0", link_error=[call("note")]), call("b", task_id="m1")]
        scene.body = call("celery.group", kind="group", kwargs={"tasks": members}, task_id="group")
        self.break_it(scene, link_error=[call("note"), call("told")])
        assert scene.store.failures == dict.fromkeys(("group", "m0", "m1"), "ValueError: wrong")
        for member in ("m0", "m1"):
            assert str(scene.store.traces[member]).startswith("Traceback (most recent call last):\n")
        assert sorted(scene.sent) == [("note", ["m0"]), ("note", ["m1"]), ("told", ["m0"]), ("told", ["m1"])]

    def test_of_a_body_that_is_a_chain_each_step_fails(self, scene: Scene) -> None:
        steps = [call("a", task_id="s0"), call("b", task_id="s1")]
        scene.body = call("celery.chain", kind="chain", kwargs={"tasks": steps})
        self.break_it(scene, link_error=[call("note")])
        assert scene.store.failures == dict.fromkeys(("s0", "s1"), self.REASON)
        assert scene.sent == [("note", ["s1"])]

    def test_of_a_body_that_is_a_chord_its_body_fails(self, scene: Scene) -> None:
        scene.body = call("celery.chord", kind="chord", kwargs={"header": [], "body": call("x", task_id="inner")})
        self.break_it(scene)
        assert scene.store.failures == {"inner": self.REASON}


@pytest.mark.row("CV11")
def test_a_chain_that_breaks_counts_the_part_that_its_end_would_be(scene: Scene) -> None:
    scene.succeed("p0", 1)
    last = call("b", task_id="p1", group_id="g", group_index=1, chord=scene.body)
    first = scene.message("first", group=None, chord=None, chain=[last, call("a", task_id="middle")])
    assert scene.chords.concerns(first)
    assert not scene.chords.concerns(scene.message("x", chord=None, chain=[call("a")]))
    assert scene.chords.failed(first, WRONG, states.REVOKED) == [], "as in Celery"
    scene.chords.failed(first, WRONG)
    assert scene.store.failures == {"body": "ChordError: Dependency p1 raised ValueError('wrong')"}


def test_a_store_that_cannot_count_is_left_alone(scene: Scene) -> None:
    scene.store.chords = None  # type: ignore[assignment]
    assert (scene.succeed("p0", 1), scene.fail("p1")) == ([], [])


def test_signatures_that_make_no_sense_raise_nothing(scene: Scene) -> None:
    scene.body = call("celery.group", kind="group", kwargs={"tasks": [5]}, task_id="body")
    scene.succeed("p0", 1)
    assert scene.fail("p1") == []


@pytest.mark.row("CV13")
class TestNested:
    """A chord in the header of another: its body is a part of the other one, and never runs."""

    @pytest.fixture(params=["the last part", "a part that ends later"])
    def told(self, request: pytest.FixtureRequest, scene: Scene) -> Any:
        """Break the inner chord, and with it the outer one: at once, or when another process counts the outer's end."""

        def break_both(inner: list[Any], outer: dict[str, Any]) -> list[tuple[str, Any]]:
            scene.store.sizes["outer"] = 2
            other = {"group": "outer", "chord": outer}
            if request.param == "the last part":
                scene.succeed("o1", 1, **other)
            scene.body = call("total", task_id="body", link_error=inner, group_id="outer", chord=outer)
            scene.succeed("p0", 1)
            for close in scene.fail("p1"):
                close(True)
            if request.param != "the last part":
                for close in Chords(scene.app).succeeded(
                    scene.message("o1", **other), scene.chords.encoded(scene.message("o1", **other), 1)
                ):
                    close(True)
            return scene.sent

        return break_both

    def test_an_error_callback_of_both_hears_of_it_once(self, scene: Scene, told: Any) -> None:
        both = call("note", "x", queue="q")
        assert told([both], call("top", task_id="end", link_error=[call("note", "x")])) == [("note", ["body", "x"])]
        assert scene.store.failures["end"].startswith("ChordError: Dependency body raised ChordError")

    def test_one_of_the_outer_alone_hears_of_it_too(self, told: Any) -> None:
        outer = call("top", task_id="end", link_error=[call("note"), call("other")])
        assert told([call("note")], outer) == [("note", ["body"]), ("other", ["end"])]

    def test_nor_do_the_members_of_a_body_that_is_a_group(self, scene: Scene, told: Any) -> None:
        note = call("note")
        members = [call("a", task_id="a", link_error=[note]), call("b", task_id="b", link_error=[note])]
        outer = call("celery.group", kind="group", kwargs={"tasks": members}, task_id="end")
        assert told([note], outer) == [("note", ["body"])]
        assert {"a", "b"} <= set(scene.store.failures)


def test_what_breaks_a_chord_is_its_cause(scene: Scene) -> None:
    from turbo.child.chords import _chord_error

    error = _chord_error("p", to_wire(WRONG))
    assert isinstance(error, ChordError) and repr(error.__cause__) == repr(WRONG)
