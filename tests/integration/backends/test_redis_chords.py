"""The parts of a chord counted in a real Redis, by turbo and by Celery's own backend in turn."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis
from celery.app.task import Context as CeleryContext

from turbo.backends.reader_settings import ReaderSettings
from turbo.backends.redis.chords import Part, RedisChords, Standing, is_refused
from turbo.backends.redis.client import RedisReader
from turbo.exceptions import OperationalError


class Chord:
    """One chord of three parts, as both sides see it."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.group = str(uuid.uuid4())
        self.reader = RedisReader(url, ReaderSettings(**settings))
        self.ours: RedisChords = self.reader.chords
        self.store = redis.Redis.from_url(url)
        options = {"result_chord_ordered": settings.get("chord_ordered", True)}
        if settings.get("global_keyprefix"):
            options["global_keyprefix"] = settings["global_keyprefix"]
        self.celery = celery.Celery(
            broker="memory://", backend=url, set_as_current=False, result_backend_transport_options=options
        )
        self.sent: list[Any] = []
        self.celery.amqp._retry_publish = lambda _send, values: self.sent.append(values)
        self.ours.set_size(uuid.UUID(self.group), 3)  # type: ignore[arg-type]

    def part(self, index: int | None, task_id: str = "") -> Part:
        return Part(task_id or f"part-{index}", self.group, index)

    def count(self, index: int | None, result: Any = None, task_id: str = "") -> Standing:
        part = self.part(index, task_id)
        return self.ours.count(part, self.ours.encode(part, "SUCCESS", result or f"by turbo {index}"))

    def count_by_celery(self, index: int, result: str = "") -> None:
        request = CeleryContext(id=f"part-{index}", group=self.group, group_index=index,
                                chord=self.celery.signature("body", options={"task_id": "body"}))  # fmt: skip
        self.celery.backend.on_chord_part_return(request, "SUCCESS", result or f"by celery {index}")

    def keys(self) -> set[str]:
        return {key.decode().partition(self.group)[2] for key in self.store.keys(f"*{self.group}*")}  # type: ignore[union-attr]

    def close(self) -> None:
        self.reader.close()
        self.store.close()
        self.celery.backend.result_consumer.stop()
        self.celery.backend.client.connection_pool.disconnect()
        self.celery.close()


@pytest.fixture(params=[True, False], ids=["ordered", "as they end"])
def ordered(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def chord(redis_url: str, ordered: bool) -> Iterator[Chord]:
    made = Chord(redis_url, chord_ordered=ordered, global_keyprefix="mine")
    yield made
    made.close()


def test_the_one_that_ends_last_goes_on(chord: Chord, ordered: bool) -> None:
    assert [chord.count(index) for index in (2, 0)] == [Standing.OPEN] * 2
    assert chord.count(1) is Standing.OURS
    found = chord.ours.results(chord.group)
    assert [task_id for task_id, _, _ in found] == [f"part-{n}" for n in ((0, 1, 2) if ordered else (2, 0, 1))]
    assert {(state, value) for _, state, value in found} == {("SUCCESS", f"by turbo {n}") for n in range(3)}
    chord.ours.close(chord.part(1))
    assert chord.keys() == {".c"}


def test_celery_counts_the_same_chord(chord: Chord, ordered: bool) -> None:
    chord.count(2)
    chord.count_by_celery(0)
    assert chord.sent == []
    chord.count_by_celery(1)
    values = ["by celery 0", "by celery 1", "by turbo 2"]
    assert chord.sent == [values if ordered else [values[2], *values[:2]]]
    assert chord.count(1) is Standing.OVER


def test_and_turbo_completes_what_celery_has_begun(chord: Chord) -> None:
    chord.count_by_celery(2)
    chord.count_by_celery(0)
    assert chord.count(1) is Standing.OURS
    assert {value for _, _, value in chord.ours.results(chord.group)} == {"by celery 0", "by celery 2", "by turbo 1"}
    chord.count_by_celery(0, "again")
    assert chord.sent == [], "turbo has claimed it"
    chord.ours.close(chord.part(1))
    chord.count_by_celery(0, "again")
    assert (chord.sent, chord.keys()) == ([], {".c"})


def test_a_part_that_runs_twice_counts_once(chord: Chord) -> None:
    assert [chord.count(0), chord.count(0, "another result"), chord.count(1)] == [Standing.OPEN] * 3
    assert chord.count(2) is Standing.OURS
    assert [value for _, _, value in chord.ours.results(chord.group)] == [f"by turbo {n}" for n in range(3)]


def test_two_places_of_a_header_may_hold_one_id(chord: Chord) -> None:
    assert [chord.count(index, task_id="same") for index in range(3)] == [Standing.OPEN, Standing.OPEN, Standing.OURS]


def test_who_was_killed_before_the_body_was_sent_gets_it_again(chord: Chord) -> None:
    for index in (0, 1, 2):
        chord.count(index)
    assert chord.count(0) is Standing.THEIRS
    assert chord.count(2) is Standing.OURS


def test_anybody_may_when_the_claim_has_run_out(chord: Chord) -> None:
    for index in (0, 1, 2):
        chord.count(index)
    (claim,) = chord.store.keys("*.c")  # type: ignore[misc]
    assert 0 < chord.store.ttl(claim) <= 6  # type: ignore[operator]
    chord.store.delete(claim)
    assert chord.count(0) is Standing.OURS


def test_a_chord_that_has_failed_does_not_fail_again(chord: Chord) -> None:
    for index in (0, 1, 2):
        chord.count(index)
    chord.ours.give_up(chord.part(2))
    assert chord.count(2) is Standing.OPEN


def test_a_part_that_joined_later_is_waited_for(chord: Chord) -> None:
    chord.ours.extend(chord.group)
    assert [chord.count(index) for index in (0, 1, 2)] == [Standing.OPEN] * 3
    assert chord.count(None, task_id="joined") is Standing.OURS
    assert chord.ours.results(chord.group)[-1][0] == "joined"


def test_a_chord_that_is_sent_again_is_counted_again(chord: Chord) -> None:
    for index in (0, 1, 2):
        chord.count(index)
    chord.ours.close(chord.part(2))
    chord.ours.set_size(chord.group, 1)
    assert chord.count(0) is Standing.OURS


def test_what_celery_has_saved_of_a_header(chord: Chord) -> None:
    # as its apply_chord does, without handles, which leave connections behind
    structure = [[chord.group, None], [[["inner", None], [[["a", None], None]]], [["c", None], None]]]
    backend = chord.celery.backend
    assert chord.ours.restore_group(chord.group) is None
    backend._set_chord_key(backend.get_key_for_group(chord.group), backend.encode({"result": structure}))
    assert chord.ours.restore_group(chord.group) == structure
    chord.ours.save_structure(chord.group, structure)
    assert backend.decode(backend.get(backend.get_key_for_group(chord.group))) == {"result": structure}


@pytest.mark.parametrize(
    ("settings", "lives"), [({}, 86400), ({"chord_expires": 50}, 50), ({"expires": 0}, -1), ({"chord_expires": 0}, -1)]
)
def test_how_long_the_counters_live(redis_url: str, settings: dict[str, Any], lives: int) -> None:
    chord = Chord(redis_url, **settings)
    chord.count(0)
    for key in (".s", ".j", ".d"):
        left = chord.store.ttl(f"celery-taskset-meta-{chord.group}{key}")
        assert left == lives if lives < 0 else lives - 30 < left <= lives  # type: ignore[operator]
    chord.close()


def test_keys_of_another_kind_are_refused_for_good(chord: Chord) -> None:
    chord.store.set(f"mine_celery-taskset-meta-{chord.group}.d", "text")
    with pytest.raises(OperationalError) as refused:
        chord.count(0)
    assert is_refused(refused.value)
    assert not is_refused(OperationalError("away"))
