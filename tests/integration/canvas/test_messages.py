"""What turbo sends of a canvas is what Celery sends of it: every header, body and key in Redis, but for the ids."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
import redis

import turbo
from tests.harness.redis_server import RedisServer
from tests.integration.canvas.both_sides import Side, celery_json, comparable, sent_by

pytestmark = [
    pytest.mark.filterwarnings("ignore::celery.exceptions.CPendingDeprecationWarning"),
    # Celery's own backend calls what redis-py 8 has deprecated.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]

Build = Callable[[Side], Any]

CHAINS: dict[str, Build] = {
    "one step": lambda s: s.chain(s.add.s(1)),
    "steps": lambda s: s.chain(s.add.s(1, 2), s.add.s(3), s.add.s(4)),
    "pipes": lambda s: s.add.s(1, 2) | s.add.s(3) | s.add.si(4, 5),
    "chains in a chain": lambda s: s.chain(s.chain(s.add.s(1), s.add.s(2)), s.chain(s.add.s(3), s.chain(s.add.s(4)))),
    "an empty group": lambda s: s.chain(s.add.s(1, 1), s.group(), s.add.s(5)),
    "a group of one": lambda s: s.add.s(1, 1) | s.group(s.add.s(1)) | s.add.s(5),
    "options": lambda s: s.chain(s.add.s(1), s.add.s(2)).set(priority=4, queue="hq", time_limit=9),
    "links": lambda s: s.chain(
        s.add.s(1, 1).on_error(s.note.s()), s.add.s(2).set(queue="q", priority=3, countdown=None)
    ).set(link=s.note.s("done"), link_error=[s.note.s("bad")]),
    "linked chains and groups": lambda s: s.add.s(1).set(
        link=s.add.s(1) | s.add.s(2), link_error=s.group(s.note.s(1), s.note.s(2))
    ),
}
GROUPS: dict[str, Build] = {
    "members": lambda s: s.group(s.add.s(1, 2), s.add.s(3, 4)),
    "a generator": lambda s: s.group(s.add.s(i, i) for i in range(3)),
    "nested": lambda s: s.group(s.add.s(1), s.group(s.add.s(2), s.add.s(3)), s.add.s(4)),
    "chains": lambda s: s.group(s.add.s(1, 1) | s.add.s(2), s.add.s(3, 3)),
    "at the end of a chain": lambda s: s.add.s(1, 2) | s.group(s.add.s(3), s.add.s(4)),
    "one chain that ends in a group": lambda s: s.group(s.add.s(1, 1) | s.group(s.add.s(2), s.add.s(3))),
    "options": lambda s: s.group(s.add.s(1, 1), s.add.s(2, 2)).set(priority=4, queue="hq"),
    "links": lambda s: _linked(s, s.group(s.add.s(1, 1), s.add.s(2, 2))),
}
CHORDS: dict[str, Build] = {
    "a list": lambda s: s.chord([s.add.s(1, 2), s.add.s(3, 4)], s.total.s()),
    "a generator": lambda s: s.chord((s.add.s(i, 4) for i in range(3)), s.total.s()),
    "no header": lambda s: s.chord([], s.total.s()),
    "a pipe": lambda s: s.group(s.add.s(1, 2), s.add.s(3, 4)) | s.total.s(),
    "a pipe and more": lambda s: s.group(s.add.s(1, 2), s.add.s(3, 4)) | s.total.s() | s.add.s(7),
    "in a chain": lambda s: s.add.s(1, 2) | s.group(s.add.s(3), s.add.s(4)) | s.total.s() | s.add.s(9),
    "two in a chain": lambda s: s.chain(
        s.group(s.add.s(1, 2), s.add.s(3, 4)), s.total.s(), s.group(s.add.s(1), s.add.s(2)), s.total.s()
    ),
    "group after group": lambda s: s.chain(
        s.add.s(1, 1), s.group(s.add.s(1), s.add.s(2)), s.group(s.add.s(3), s.add.s(4)), s.total.s()
    ),
    "a chain as part": lambda s: s.chord([s.add.s(1, 1) | s.add.s(2), s.add.s(3, 3)], s.total.s()),
    "a chord as part": lambda s: s.chord([s.add.s(1, 1), s.chord([s.add.s(1, 2)], s.total.s())], s.total.s()),
    "a group as part": lambda s: s.chord([s.group(s.add.s(1, 1), s.add.s(2, 2)), s.add.s(3, 3)], s.total.s()),
    "a chain that ends in a group as part": lambda s: s.chord(
        [s.add.s(1, 1) | s.group(s.add.s(2), s.add.s(3)), s.add.s(1, 5)], s.total.s()
    ),
    "a chain with a chord as part": lambda s: s.chord(
        [s.add.s(1) | s.group(s.add.s(1), s.add.s(2)) | s.total.s() | s.add.s(1), s.add.s(1, 5)], s.total.s()
    ),
    "maps as parts": lambda s: s.chord([s.add.map([1, 2, 3]), s.add.chunks([(1, 2), (3, 4), (5, 6)], 2)], s.total.s()),
    "a chord as body": lambda s: s.chord(
        [s.add.s(1, 1), s.add.s(2, 2)], s.chord([s.add.s(2), s.add.s(3)], s.total.s())
    ),
    "a chain as body": lambda s: s.chord([s.add.s(1, 1), s.add.s(2, 2)], s.total.s() | s.add.s(1)),
    "a group as body": lambda s: s.chord([s.add.s(1, 1), s.add.s(2, 2)], s.group(s.total.s(), s.total.s())),
    "chords in a group": lambda s: s.group(s.chord([s.add.s(1, 1), s.add.s(2, 2)], s.total.s()), s.add.s(1, 5)),
    "chord after chord": lambda s: (
        s.chord([s.add.s(1, 1)], s.total.s()) | s.chord([s.add.s(1)], s.total.s()) | s.chord([s.add.s(2)], s.total.s())
    ),
    "a chain after it": lambda s: s.chord([s.add.s(1, 1)], s.total.s()) | s.chain(s.add.s(1), s.add.s(2)),
    "a group after it": lambda s: s.chord([s.add.s(1, 1)], s.total.s()) | s.group(s.add.s(1), s.add.s(2)),
    "options": lambda s: s.chord([s.add.s(1, 1), s.add.s(2, 2)], s.total.s()).set(
        priority=4, queue="hq", link=s.note.s(), link_error=s.note.s("e")
    ),
    "links": lambda s: _linked(s, s.chord([s.add.s(1, 1), s.add.s(2, 2)], s.total.s())),
    "settled before": lambda s: _settled(s.add.s(1, 1) | s.group(s.add.s(1), s.add.s(2)) | s.total.s()),
    "a settled chain of a group": lambda s: _settled(
        s.chain(s.add.s(1, 1), s.group(s.add.s(1), s.add.s(2)), s.total.s(), app=s.app)
    ),
    "from what travelled": lambda s: s.signature(
        json.loads(celery_json(s.add.s(1, 1) | s.group(s.add.s(1), s.add.s(2)) | s.total.s())), app=s.app
    ),
}
MAPS: dict[str, Build] = {
    "map": lambda s: s.add.map([1, 2, 3]),
    "starmap": lambda s: s.add.starmap([(1, 2), (3, 4)]),
    "chunks": lambda s: s.add.chunks(zip(range(5), range(5), strict=True), 2),
    "in a chain": lambda s: s.add.map([1, 2, 3]) | s.total.s(),
}


def _linked(side: Side, sig: Any) -> Any:
    sig.link(side.note.s())
    sig.link_error(side.note.si("x"))
    return sig


def _settled(sig: Any) -> Any:
    sig.freeze()
    return sig


def _cases() -> list[Any]:
    rows = {"chain": (CHAINS, "CV2"), "group": (GROUPS, "CV4"), "chord": (CHORDS, "CV5", "CV6"), "map": (MAPS, "CV12")}
    return [
        pytest.param(build, id=f"{kind}: {name}", marks=pytest.mark.row(*named))
        for kind, (builds, *named) in rows.items()
        for name, build in builds.items()
    ]


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    redis_server.ensure_running()
    with redis.Redis.from_url(redis_server.new_database(), decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module")
def sides(store: redis.Redis) -> Iterator[list[Side]]:
    place = store.connection_pool.connection_kwargs
    both = [Side(module, f"redis://{place['host']}:{place['port']}/{place['db']}") for module in (celery, turbo)]
    yield both
    for side in both:
        side.app.close()
    backend = both[0].app.backend
    # Celery's results would connect again to unsubscribe when they go, at the end of the process.
    backend.remove_pending_result = lambda _result: None
    backend.result_consumer.stop()
    backend.client.connection_pool.disconnect()


@pytest.mark.parametrize("build", _cases())
def test_both_send_the_same(build: Build, sides: list[Side], store: redis.Redis) -> None:
    messages, keys = [], []
    for side in sides:
        store.flushdb()
        messages.append(sent_by(side, build))
        keys.append(_keys(store))
    assert messages[1] == messages[0]
    assert keys[1] == keys[0]


def _keys(store: redis.Redis) -> Any:
    """What is in the database, comparable: kind of key, value and whether it is there for a day."""
    found = [[key, json.loads(str(store.get(key))), 86000 < store.ttl(key) <= 86400] for key in store.scan_iter()]
    return comparable(sorted(found, key=lambda each: json.dumps(comparable(each))))


ETA = "2031-01-01T00:00:00+00:00"
ID = "11111111-1111-1111-1111-111111111111"
#: Canvases with the options that they are sent with.
CALLS: dict[str, tuple[Build, tuple[Any, ...], dict[str, Any]]] = {
    "chain": (
        lambda s: s.chain(s.add.s(1), s.add.s(3), s.add.s(4)),
        ((5,),),
        {"eta": ETA, "task_id": ID, "queue": "q", "priority": 2, "link": "+link", "link_error": "+link"},
    ),
    "keywords": (lambda s: s.chain(s.add.s(1), s.add.s(3)), ((), {"y": 3}), {"time_limit": 4, "headers": {"a": 1}}),
    "immutable first step": (lambda s: s.chain(s.add.si(1), s.add.s(3)), ((9,),), {}),
    "family": (
        lambda s: s.chain(s.add.si(1), s.group(s.add.s(3), s.add.s(4)), s.total.s()),
        ((9,),),
        {"root_id": "r", "parent_id": "p"},
    ),
    "group": (lambda s: s.group(s.add.s(1), s.add.si(3)), ((5,),), {"eta": ETA, "queue": "q", "task_id": ID}),
    "group's keywords": (lambda s: s.group(s.add.s(1), s.add.s(3)), ((), {"y": 5}), {"root_id": "r", "parent_id": "p"}),
    "immutable group": (lambda s: s.group(s.add.s(1), s.add.s(3)).set(immutable=True), ((5,),), {}),
    "chord": (
        lambda s: s.chord([s.add.s(1), s.add.si(3)], s.total.s()),
        ((5,),),
        {"eta": ETA, "queue": "q", "priority": 3, "task_id": ID, "link": "+link", "link_error": "+link"},
    ),
    "chord with an id": (lambda s: s.chord([s.add.s(1), s.add.si(3)], s.total.s(), task_id=ID), ((5,),), {}),
    "chord with a time": (lambda s: s.chord([s.add.s(1), s.add.si(3)], s.total.s()).set(eta=ETA), (), {}),
    "body that is a group": (
        lambda s: s.chord([s.add.s(1)], s.group(s.total.s(), s.total.s())),
        (),
        {"link": "+link", "link_error": "+link"},
    ),
    "body that is a group with errbacks": (
        lambda s: s.chord([s.add.s(1)], s.group(s.total.s()).set(link_error=[s.note.s(3)])),
        (),
        {"link_error": "+link"},
    ),
    "body that is a chain": (
        lambda s: s.chord([s.add.s(1)], s.total.s() | s.add.s(1)),
        (),
        {"link": "+link", "link_error": "+link"},
    ),
    "body that is a chord": (
        lambda s: s.chord([s.add.s(1)], s.chord([s.total.s()], s.total.s())),
        (),
        {"link": "+link", "link_error": "+link"},
    ),
    "chain with a chord": (
        lambda s: s.add.s(1) | s.group(s.add.s(1), s.add.s(2)) | s.total.s() | s.add.s(2),
        (),
        {"link": "+link", "link_error": "+link"},
    ),
    "chain that grew": (
        lambda s: (s.add.s(1) | s.group(s.add.s(1), s.add.s(2)) | s.total.s()).on_error(s.note.s()) | s.add.s(2),
        (),
        {},
    ),
    "chord as a step": (
        lambda s: _travelled(s, s.group(s.add.s(1), s.add.s(3)) | s.total.s()),
        ((5,),),
        {"chain": "+chain", "parent_id": "p", "root_id": "r", "priority": None},
    ),
    "chain as a step": (lambda s: _travelled(s, s.add.s(1) | s.add.s(3)), ((5,),), {"chain": "+chain"}),
    "group as a step": (lambda s: _travelled(s, s.group(s.add.s(1), s.add.s(3))), ((5,),), {"chain": "+chain"}),
    "group as a body": (
        lambda s: _travelled(
            s, s.group(s.add.s(1)).set(chord=dict(s.total.s()), group_id="g", group_index=3, task_id=ID)
        ),
        ((5,),),
        {},
    ),
    "chord as a part": (
        lambda s: _travelled(
            s, s.chord([s.add.s(1)], s.total.s()).set(chord=dict(s.total.s()), group_id="g", group_index=3, task_id=ID)
        ),
        ((5,),),
        {},
    ),
    "chunks": (lambda s: s.add.chunks([(1, 2), (3, 4)], 1), (), {"queue": "q", "countdown": None}),
    "map": (lambda s: s.add.map([1, 2]).set(queue="q", link=s.note.s()), (), {"time_limit": 3}),
    "clone of a map": (lambda s: s.add.map([1, 2]).clone(queue="q"), (), {}),
    "replaced options": (lambda s: s.add.s(1, 2).replace(args=(5,), options={"queue": "z"}), (), {}),
}


def _travelled(side: Side, sig: Any) -> Any:
    return side.signature(json.loads(celery_json(sig)), app=side.app)


def _filled(side: Side, options: dict[str, Any]) -> dict[str, Any]:
    """Put this side's signatures into options."""
    own = {"+link": side.note.s(1), "+chain": [side.add.s(7)]}
    return {name: own[value] if isinstance(value, str) and value in own else value for name, value in options.items()}


@pytest.mark.row("CV2", "CV4", "CV5")
@pytest.mark.parametrize("name", CALLS)
def test_both_send_the_same_with_options(name: str, sides: list[Side], store: redis.Redis) -> None:
    build, args, options = CALLS[name]
    messages, keys = [], []
    for side in sides:
        store.flushdb()
        with side.published() as published:
            build(side).apply_async(*args, **_filled(side, options))
        messages.append(comparable(published))
        keys.append(_keys(store))
    assert messages[1] == messages[0]
    assert keys[1] == keys[0]


@pytest.mark.row("CV4", "ST32")
@pytest.mark.parametrize("writer", [0, 1], ids=["celery", "turbo"])
def test_saved_groups_are_read_by_both(writer: int, sides: list[Side], store: redis.Redis) -> None:
    store.flushdb()
    ours, theirs = sides[writer], sides[1 - writer]
    with ours.published():
        result = (ours.add.s(1, 2) | ours.group(ours.add.s(1), ours.add.s(2) | ours.add.s(3))).apply_async()
    result.save()
    assert [86000 < lasting <= 86400 for lasting in map(store.ttl, store.scan_iter())] == [True]
    for side in (ours, theirs):
        kind = importlib.import_module(f"{side.module.__name__}.result").GroupResult
        found = kind.restore(result.id, app=side.app)
        assert json.loads(json.dumps(found.as_tuple())) == json.loads(json.dumps(result.as_tuple()))
        assert found.parent.id == result.parent.id
    result.delete()
    assert list(store.scan_iter()) == []


def test_chords_may_be_kept_for_another_time_than_results(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    side = Side(turbo, url, result_chord_expires=100, result_expires=50)
    with side.published(), redis.Redis.from_url(url, decode_responses=True) as client:
        side.chord([side.add.s(1), side.group(side.add.s(2), side.add.s(3))], side.total.s()).apply_async()
        assert [50 < lasting <= 100 for lasting in map(client.ttl, client.scan_iter())] == [True]
    side.app.close()
