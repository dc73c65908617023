"""Documents for the master are those that Celery's backends would send or store, byte for byte."""

from __future__ import annotations

import enum
import json
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.result import AsyncResult
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import EncodeError
from kombu.serialization import dumps

from turbo.adopted.result_documents import ResultDocuments
from turbo.ring.frames import StoreRequest, unpack_store


class Colour(enum.IntEnum):
    RED = 1


def made(url: str, **settings: Any) -> Celery:
    return Celery("proj", broker="memory://", backend=url, set_as_current=False, changes=settings)


REDIS, REPLIES = made("redis://127.0.0.1:1/0"), made("rpc://")
DOCUMENTS = {"redis": ResultDocuments(REDIS), "rpc": ResultDocuments(REPLIES)}
VALUES = [
    None, True, False, 0, -7, 10**29, 10**40, 1.5, float("inf"), "", "text", 'quo"ted\\', "\u00e4\u2028\ud800", [], {},
    [1, [2, {"a": None}]], {"b": 1, "a": {"x": "\u00fc"}}, {1: 2}, (1, 2), Colour.RED, b"bytes", b"\xff",
    Decimal("1.20"), uuid.UUID(int=3), date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), OrderedDict(z=1, a=2),
]  # fmt: skip


def request(**fields: Any) -> Context:
    return Context({"id": "1", "reply_to": "client", "correlation_id": "c", **fields})


def store_of(app: Celery, value: Any, asked: Context) -> StoreRequest:
    packed = ResultDocuments(app).packed("1", value, asked)
    assert packed is not None
    return unpack_store(packed)


def as_celery(app: Celery, value: Any, asked: Context, date_done: str) -> bytes:
    """What Celery's backend makes of this result, at another time."""
    backend = app.backend
    if app is REDIS or "redis" in str(app.conf.result_backend):
        meta = {**backend._get_result_meta(value, "SUCCESS", None, asked), "task_id": "1"}
        body = backend.encode({**meta, "date_done": date_done})
    else:
        meta = backend._to_result("1", "SUCCESS", value, None, asked)
        body = dumps({**meta, "date_done": date_done}, serializer=backend.serializer)[2]
    return body if isinstance(body, bytes) else body.encode()


def check(app: Celery, value: Any, **fields: Any) -> StoreRequest:
    store = store_of(app, value, request(**fields))
    date_done = json.loads(store.payload)["date_done"]
    assert store.payload == as_celery(app, value, request(**fields), date_done)
    return store


@pytest.mark.parametrize("app", [REDIS, REPLIES], ids=["redis", "rpc"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_type(app: Celery, value: Any) -> None:
    check(app, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_any_json(value: Any) -> None:
    for app in (REDIS, REPLIES):
        check(app, value)


@pytest.mark.parametrize("app", [REDIS, REPLIES], ids=["redis", "rpc"])
@pytest.mark.parametrize("fields", [{"group": "g"}, {"parent_id": "p"}, {"group": "g", "parent_id": "p"}])
def test_parts_of_a_canvas(app: Celery, fields: dict[str, str]) -> None:
    check(app, 1, **fields)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rpc://"])
def test_what_a_task_has_sent(url: str) -> None:
    asked, app = request(), made(url)
    asked.children.append(AsyncResult("2", app=app))

    store = store_of(app, 1, asked)
    assert json.loads(store.payload)["children"] == [[["2", None], None]]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rpc://"])
@pytest.mark.parametrize(
    "settings",
    [{"result_extended": True}, {"timezone": "Asia/Tokyo"}, {"enable_utc": False}],
    ids=lambda each: next(iter(each)),
)
def test_settings_that_documents_show(url: str, settings: dict[str, Any]) -> None:
    store = check(made(url, **settings), 1, args=[1], delivery_info={"routing_key": "q"})

    found = json.loads(store.payload)
    assert ("queue" in found) == ("result_extended" in settings)
    assert found["date_done"].endswith("+09:00") == ("timezone" in settings)


def test_another_serializer_and_compression() -> None:
    store = store_of(made("rpc://", result_serializer="pickle"), {1, 2}, request())
    assert (store.content_type, store.content_encoding) == ("application/x-python-serialize", "binary")

    app = made("redis://127.0.0.1:1/0", result_compression="gzip")
    if getattr(app.backend, "compression", None):
        assert app.backend.decode(store_of(app, 1, request()).payload)["result"] == 1


def test_a_reply_has_its_address_and_type() -> None:
    store = check(REPLIES, 1)
    assert (store.reply_to, store.correlation_id) == ("client", "c")
    assert (store.content_type, store.content_encoding) == ("application/json", "utf-8")
    assert check(REDIS, 1).reply_to == ""


def test_nothing_is_sent_where_no_reply_is_wanted() -> None:
    assert DOCUMENTS["rpc"].packed("1", 1, request(reply_to=None)) == b""


@pytest.mark.parametrize("fields", [{"reply_to": "q" * 200}, {"correlation_id": "c" * 200}])
def test_names_that_may_be_too_long_are_celery_s(fields: dict[str, str]) -> None:
    assert DOCUMENTS["rpc"].packed("1", 1, request(**fields)) is None


@pytest.mark.parametrize("kind", ["redis", "rpc"])
def test_a_large_result_is_celery_s(kind: str) -> None:
    assert DOCUMENTS[kind].packed("1", "x" * 100_000, request()) is None


@pytest.mark.parametrize("kind", ["redis", "rpc"])
def test_what_does_not_encode_fails_as_in_celery(kind: str) -> None:
    with pytest.raises(EncodeError, match="not JSON serializable"):
        DOCUMENTS[kind].packed("1", {1, 2}, request())


def test_documents_of_another_form_are_celery_s(monkeypatch: pytest.MonkeyPatch) -> None:
    app = made("rpc://")
    make = app.backend._to_result
    monkeypatch.setattr(app.backend, "_to_result", lambda *args: {**make(*args), "more": 1})

    assert json.loads(store_of(app, 1, request()).payload)["more"] == 1
