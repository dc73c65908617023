"""In which order a part of a chord ends: one executor over real rings, a store that counts in this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.child.test_chords import Store, call
from tests.unit.child.test_task_hooks import Bench, bench
from turbo import Turbo, states
from turbo.child.chords import Chords
from turbo.child.duplicates import Duplicates
from turbo.exceptions import Ignore, Reject, Retry
from turbo.policy.settling import Ending, Verb

__all__ = ["bench"]

PART = {"group_id": "g", "group_index": 0, "chord": call("total", task_id="body")}


class Noting(Store):
    """Notes what it is asked beside what the master is."""

    def __init__(self, happened: list[Any]) -> None:
        super().__init__({"g": 1})
        self._happened = happened

    def count(self, part: Any, gave: bytes) -> Any:
        self._happened.append("counted")
        return super().count(part, gave)

    def close(self, part: Any) -> None:
        self._happened.append("closed")

    def give_up(self, part: Any) -> None:
        self._happened.append("given up")


@pytest.fixture
def store(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Noting:
    made = Noting(bench.happened)
    monkeypatch.setattr(Turbo, "backend", property(lambda _app: made))
    # nothing is published from here: the body goes where the test does not look
    monkeypatch.setattr("turbo.child.chords.followups.send", lambda *_: bench.happened.append("body sent"))
    return made


@pytest.mark.usefixtures("store")
def test_a_part_is_counted_when_stored_and_the_counters_go_when_the_body_is_confirmed(bench: Bench) -> None:
    bench.app.task(name="t")(lambda: 5)
    done = bench.run("t", **PART)
    assert bench.happened == [("asked", None), "counted", "body sent", ("asked", Verb.ACK), "closed"]
    assert (done.verb, done.ending, done.store) == (Verb.ACK, Ending.SUCCESS, None)


@pytest.mark.usefixtures("store")
def test_one_without_a_document_is_counted_at_once(bench: Bench) -> None:
    bench.app.task(name="t", ignore_result=True)(lambda: 5)
    bench.run("t", **PART)
    assert bench.happened == ["counted", "body sent", ("asked", Verb.ACK), "closed"]


def test_a_chord_that_is_not_complete_is_not_waited_for(bench: Bench, store: Noting) -> None:
    store.sizes["g"] = 2
    bench.app.task(name="t")(lambda: 5)
    assert bench.run("t", **PART).ending == Ending.SUCCESS
    assert bench.happened == [("asked", None), "counted"]


@pytest.mark.parametrize("how", ["raise", "reject", "result"])
def test_one_that_fails_breaks_the_chord(bench: Bench, store: Noting, how: str) -> None:
    def body() -> object:
        if how == "result":
            return object()
        raise Reject("no") if how == "reject" else KeyError("k")

    bench.app.task(name="t")(body)
    done = bench.run("t", **PART)
    assert bench.happened[:2] == [("asked", None), "counted"] and bench.happened[-1] == "given up"
    assert store.failures["body"].startswith("ChordError: Dependency ID raised ")
    assert done.ending == (Ending.REJECT if how == "reject" else Ending.FAILURE)


def test_one_whose_result_is_refused_breaks_it_too(bench: Bench, store: Noting) -> None:
    bench.stored = False
    bench.app.task(name="t")(lambda: 5)
    bench.run("t", **PART)
    assert "could not be stored" in store.failures["body"]


def test_one_that_has_expired_breaks_it(bench: Bench, store: Noting) -> None:
    bench.app.task(name="t")(lambda: 5)
    assert bench.run("t", expires="2001-01-01T00:00:00+00:00", **PART).ending == Ending.REVOKED
    assert bench.happened == [("asked", None), "counted", ("asked", Verb.ACK), "given up"]
    assert store.gave["g"]["ID"][0] == states.REVOKED


@pytest.mark.parametrize("how", [Ignore(), Retry("later")])
def test_ignored_ones_and_attempts_that_are_not_the_last_are_not_counted(
    bench: Bench, store: Noting, how: Exception
) -> None:
    def body() -> None:
        raise how

    bench.app.task(name="t")(body)
    assert bench.run("t", **PART).ending in (Ending.IGNORE, Ending.RETRY)
    assert bench.happened == [] and store.gave == {}


@pytest.mark.parametrize("counted", [True, False])
def test_one_that_was_done_before_its_message_came_again_is_counted_again(
    bench: Bench, store: Noting, counted: bool
) -> None:
    """Its child may have been killed between the document and the count."""
    message = SimpleNamespace(id="ID", group="g", group_index=0, chord=PART["chord"] if counted else None, chain=None,
                              callbacks=None, label="t[ID]")  # fmt: skip
    run = SimpleNamespace(message=message, seq=1, began=0)
    before: Any = SimpleNamespace(state=states.SUCCESS, result=5, children=[])
    app: Any = SimpleNamespace(backend=store, AsyncResult=lambda _id: before)
    ended: list[Any] = []
    reporter: Any = SimpleNamespace(done=lambda *words: ended.append(words[2:]))
    assert Duplicates(app, reporter, Chords(app)).is_done(run)  # type: ignore[arg-type]
    assert bench.happened == (["counted", "body sent"] if counted else [])
    assert ended == [(Verb.ACK, Ending.SUCCESS)]
