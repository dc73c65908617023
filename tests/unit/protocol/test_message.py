"""Task messages: every field right, every field wrong, every form."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from turbo.exceptions import InvalidTaskError
from turbo.protocol.message import (
    Form,
    TaskMessage,
    UnknownMessageError,
    build,
    identify,
    parse,
    parse_eta,
    parse_headers,
)
from turbo.protocol.properties import Properties
from turbo.protocol.republishing import DEATH_HEADERS, republish_headers

SIGNATURE = {"task": "t", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
NIGHT = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)


def props(**headers: Any) -> Properties:
    return Properties("application/json", "utf-8", headers, 2, 0, "corr", "reply")


def message(body: Any = None, **headers: Any) -> TaskMessage:
    return parse(props(**{"task": "t", "id": "i", **headers}), [[], {}, None] if body is None else body)


def v1(**fields: Any) -> dict[str, Any]:
    return {"task": "t", "id": "i", "args": [1], "kwargs": {"a": 2}, **fields}


@pytest.mark.row("WP2", "WP3", "WP15")
def test_a_foreign_producer_may_send_only_task_and_id() -> None:
    found = message()
    assert (found.id, found.task, found.args, found.kwargs) == ("i", "t", [], {})
    assert (found.retries, found.replaced_task_nesting, found.timelimit, found.ignore_result) == (0, 0, None, None)
    assert (found.eta, found.expires, found.group, found.group_index, found.parent_id) == (None,) * 5
    assert (found.callbacks, found.errbacks, found.chain, found.chord) == (None,) * 4
    assert (found.root_id, found.headers, found.utc, found.lang) == ("i", None, True, None)
    assert (found.correlation_id, found.reply_to) == ("corr", "reply")


@pytest.mark.row("WP3", "WP14", "WP15", "WP17", "WP18", "WP19", "WP20")
def test_every_field() -> None:
    headers, body, _ = build(
        "i",
        "t",
        (1,),
        {"a": 2},
        eta=NIGHT,
        expires="2031-01-03",
        retries=3,
        time_limit=9,
        soft_time_limit=0.5,
        group_id="g",
        group_index=4,
        root_id="r",
        parent_id="p",
        callbacks=[SIGNATURE],
        errbacks=[SIGNATURE],
        chain=[SIGNATURE],
        chord=SIGNATURE,
        shadow="s",
        argsrepr="A",
        kwargsrepr="K",
        origin="o",
        ignore_result=True,
        replaced_task_nesting=2,
        stamped_headers=["st"],
        stamps={"st": 1},
        headers={"x-own": [1]},
    )
    found = parse(Properties(headers=headers), body)
    expected = {
        "id": "i",
        "task": "t",
        "args": (1,),
        "kwargs": {"a": 2},
        "eta": NIGHT,
        "expires": datetime(2031, 1, 3, tzinfo=UTC),
        "retries": 3,
        "timelimit": [9, 0.5],
        "group": "g",
        "group_index": 4,
        "root_id": "r",
        "parent_id": "p",
        "callbacks": [SIGNATURE],
        "errbacks": [SIGNATURE],
        "chain": [SIGNATURE],
        "chord": SIGNATURE,
        "shadow": "s",
        "argsrepr": "A",
        "kwargsrepr": "K",
        "origin": "o",
        "ignore_result": True,
        "replaced_task_nesting": 2,
        "stamped_headers": ["st"],
        "stamps": {"st": 1},
        "headers": {"x-own": [1]},
        "lang": "py",
        "utc": True,
    }
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", ""),
        ("id", {}),
        ("id", 5),
        ("id", b"\xff"),
        ("task", None),
        ("task", ""),
        ("task", []),
        ("task", b"\xff"),
        ("retries", "x"),
        ("retries", -1),
        ("retries", 1.5),
        ("retries", True),
        ("retries", []),
        ("replaced_task_nesting", -1),
        ("replaced_task_nesting", "1"),
        ("timelimit", 5),
        ("timelimit", [1]),
        ("timelimit", [1, 2, 3]),
        ("timelimit", [-1, 1e308]),
        ("timelimit", [None, float("nan")]),
        ("timelimit", [float("inf"), 1]),
        ("timelimit", ["1", None]),
        ("timelimit", [True, None]),
        ("timelimit", {}),
        ("timelimit", "ab"),
        ("eta", "9999999"),
        ("eta", 5),
        ("eta", 1e9),
        ("eta", []),
        ("eta", "never"),
        ("eta", b"\xff"),
        ("eta", "0001-01-01T00:00:00+23:00"),
        ("expires", float("nan")),
        ("expires", "9999-12-31T23:59:59-23:00"),
        ("expires", True),
        ("group", 5),
        ("group", []),
        ("group_index", "1"),
        ("group_index", 1.0),
        ("group_index", True),
        ("root_id", 5),
        ("root_id", b"\xff"),
        ("parent_id", {}),
        ("ignore_result", "yes"),
        ("ignore_result", 2),
        ("ignore_result", []),
        ("stamped_headers", "ab"),
        ("stamped_headers", [1]),
        ("stamped_headers", 5),
        ("stamps", [1]),
        ("stamps", "x"),
    ],
    ids=repr,
)
@pytest.mark.row("WP14")
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidTaskError, match=f"^{field} "):
        message(**{field: value})
    with pytest.raises(InvalidTaskError, match=f"^{field} |neither headers nor body"):
        parse(Properties(), v1(**{field: value}))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([{}, {}, None], "args"),
        (["abc", {}, None], "args"),
        ([None, {}, None], "args"),
        ([[], [], None], "kwargs"),
        ([[], None, None], "kwargs"),
        ([[], {}, [1]], "embed"),
        ([[], {}, "x"], "embed"),
        ([[], {}], "the body"),
        ([], "the body"),
        ([1, 2, 3, 4], "the body"),
        ("abc", "the body"),
        (b"abc", "the body"),
        (5, "the body"),
        ({"a": 1}, "the body"),
        ([[], {}, {"callbacks": {"task": "t"}}], "callbacks"),
        ([[], {}, {"callbacks": [5]}], r"callbacks\[0\]"),
        ([[], {}, {"errbacks": [SIGNATURE, {}]}], r"errbacks\[1\]"),
        ([[], {}, {"chain": "x"}], "chain"),
        ([[], {}, {"chord": [1]}], "chord"),
        ([[], {}, {"chord": {"task": 5}}], "chord"),
        ([[], {}, {"chain": [{"task": "t", "args": 5}]}], r"args of chain\[0\]"),
    ],
    ids=repr,
)
def test_a_wrong_body_is_named(body: object, field: str) -> None:
    with pytest.raises(InvalidTaskError, match=f"^{field} "):
        message(body)


def test_errors_are_short_whatever_the_value() -> None:
    for value in ({"k": "x" * 10**6}, ["y"] * 10**5, "z" * 10**6):
        with pytest.raises(InvalidTaskError) as caught:
            message(eta=value)
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["shadow", "argsrepr", "kwargsrepr", "origin", "lang"])
@pytest.mark.parametrize("value", [5, [], {}, b"\xff", None])
def test_wrong_values_of_what_is_only_shown_are_dropped(field: str, value: object) -> None:
    assert getattr(message(**{field: value}), field) is None


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("retries", None, 0),
        ("replaced_task_nesting", None, 0),
        ("timelimit", [], None),
        ("timelimit", [0, None], [0, None]),
        ("timelimit", (3, 2.5), [3, 2.5]),
        ("eta", "", None),
        ("eta", NIGHT, NIGHT),
        ("expires", "20310102T030405Z", NIGHT),
        ("eta", datetime(2031, 1, 2, 3, 4, 5), NIGHT),
        ("root_id", None, "i"),
        ("root_id", "", "i"),
        ("ignore_result", 0, False),
        ("ignore_result", 1, True),
        ("shadow", "", None),
        ("stamps", {}, None),
        ("stamped_headers", [], []),
    ],
    ids=repr,
)
def test_values_that_mean_another(field: str, value: object, expected: object) -> None:
    found = getattr(message(**{field: value}), field)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.row("WP17")
def test_custom_headers() -> None:
    own = {"x-own": 1, "x-death": [], "delivery_mode": 5}
    assert message(**own, compression="c", meth=None, utc=True).headers == own
    assert republish_headers(own) == {"x-own": 1, "delivery_mode": 5}
    assert republish_headers(None) is republish_headers({}) is republish_headers({"x-death": 1}) is None
    assert len(DEATH_HEADERS) == 7
    # as many headers as Celery sends, and yet others
    assert len(message(**{f"h{number}": number for number in range(17)}).headers or {}) == 17


@pytest.mark.row("WP4")
def test_protocol_1() -> None:
    body = v1(
        retries=2,
        eta="2031-01-02T03:04:05",
        expires=None,
        utc=True,
        taskset="g",
        chord=SIGNATURE,
        callbacks=[SIGNATURE],
        errbacks=None,
        timelimit=[5, None],
        group_index=1,
    )
    found = parse(Properties(headers={"x-own": 1}, correlation_id="c"), body)
    assert (found.args, found.kwargs, found.group, found.group_index, found.retries) == ([1], {"a": 2}, "g", 1, 2)
    assert (found.eta, found.timelimit, found.chord, found.callbacks) == (NIGHT, [5, None], SIGNATURE, [SIGNATURE])
    assert (found.chain, found.utc, found.headers, found.correlation_id) == (None, True, {"x-own": 1}, "c")
    assert parse(Properties(), {"task": "t", "id": "i"}).args == ()
    assert parse(Properties(), v1(group="new", taskset="old")).group == "new"


@pytest.mark.row("WP4", "WP14")
def test_protocol_1_may_speak_of_local_times() -> None:
    zone = timezone(timedelta(hours=3))
    body = v1(eta="2031-01-02T06:04:05", utc=False)
    found = parse(Properties(), body, zone)
    assert (found.eta, found.utc) == (NIGHT, False)
    assert parse(Properties(), {**body, "utc": True}, zone).eta == NIGHT + timedelta(hours=3)
    assert parse(Properties(), {**body, "eta": "2031-01-02T03:04:05Z"}, zone).eta == NIGHT
    # protocol 2 is always UTC
    assert parse(props(task="t", id="i", eta="2031-01-02T03:04:05"), [[], {}, None], zone).eta == NIGHT


@pytest.mark.row("WP5")
def test_hybrid_messages_headers_win() -> None:
    body = v1(retries=1, task="old", shadow="from body", group="g", callbacks=[SIGNATURE])
    found = parse(props(task="t", id="i2", retries=5, group=None, x=1), body)
    assert (found.task, found.id, found.retries, found.args) == ("t", "i2", 5, [1])
    assert (found.shadow, found.group, found.callbacks, found.headers) == ("from body", "g", [SIGNATURE], {"x": 1})


def test_protocol_1_text_that_no_encoding_carries() -> None:
    for field in ("id", "task", "group", "root_id", "parent_id"):
        with pytest.raises(InvalidTaskError, match=field):
            parse(Properties(), v1(**{field: "a\ud800"}))
    for field in ("correlation_id", "reply_to"):
        bad = Properties(headers={"task": "t", "id": "i"}, **{field: "a\udcff"})
        with pytest.raises(InvalidTaskError, match=field):
            parse(bad, [[], {}, None])
        setattr(bad, field, "ü")
        assert getattr(parse(bad, [[], {}, None]), field) == "ü"


@pytest.mark.row("WP2", "WP22")
@pytest.mark.parametrize(
    "body", [None, 5, "text", b"bytes", [], [1, 2, 3], {}, {"task": "t"}, {"id": "i"}, [[], {}, {}]], ids=repr
)
def test_what_names_no_task_is_unknown(body: object) -> None:
    for headers in (None, {}, {"id": "i"}):
        assert identify(Properties(headers=headers), body) is Form.UNKNOWN  # type: ignore[arg-type]
        with pytest.raises(UnknownMessageError):
            parse(Properties(headers=headers), body)  # type: ignore[arg-type]


@pytest.mark.row("WP2")
def test_headers_that_are_no_mapping_are_unknown() -> None:
    odd = Properties(headers=["task"])  # type: ignore[arg-type]
    assert identify(odd, v1()) is Form.UNKNOWN
    for headers in (["task"], "task", 5, True):
        odd = Properties("application/json", headers=headers)  # type: ignore[arg-type]
        with pytest.raises(UnknownMessageError):
            parse(odd, [[], {}, None])
        with pytest.raises(UnknownMessageError):
            parse_headers(odd, b'{"task": "t", "id": "i"}')


@pytest.mark.row("WP2", "WP4", "WP5")
def test_forms() -> None:
    assert identify(props(task="t"), [[], {}, {}]) is Form.V2
    assert identify(props(task="t"), {"a": 1}) is Form.V2
    assert identify(props(task="t"), {"args": []}) is Form.HYBRID
    assert identify(Properties(), v1()) is Form.V1


def test_headers_alone() -> None:
    json_props = Properties("application/json", "utf-8")
    found = parse_headers(props(task="t", id="i", eta="2031-01-02T03:04:05"), b"not even read")
    assert (found.id, found.eta, found.args, found.kwargs) == ("i", NIGHT, (), {})
    old = parse_headers(json_props, json.dumps(v1(eta="2031-01-02T03:04:05", callbacks=[SIGNATURE])).encode())
    assert (old.id, old.eta, old.args, old.kwargs, old.callbacks) == ("i", NIGHT, (), {}, [SIGNATURE])


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (Properties("application/json"), b""),
        (Properties("application/json"), b"[1]"),
        (Properties("application/json"), b"[" * 99999),
        (Properties("application/json"), b" " * (1024 * 1024 + 1)),
        (Properties("application/x-python-serialize"), b"."),
        (Properties("application/json", headers={"compression": "application/x-gzip"}), b"{}"),
        (Properties(), b'{"task": "t", "id": "i"}'),
        (Properties("application/json", headers={"id": "i"}), b'{"id": "i"}'),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_headers_that_the_body_does_not_tell(given: Properties, body: bytes) -> None:
    with pytest.raises(UnknownMessageError):
        parse_headers(given, body)
    with pytest.raises(InvalidTaskError):
        parse_headers(Properties("application/json"), json.dumps(v1(retries="x")).encode())


@pytest.mark.row("WP14")
def test_times() -> None:
    zone = timezone(timedelta(hours=-4))
    assert parse_eta("2031-01-02T03:04:05") == parse_eta("2031-01-01T23:04:05-04:00") == NIGHT
    assert parse_eta("2031-01-01T23:04:05", zone) == parse_eta(NIGHT, zone) == NIGHT
    assert parse_eta("2031-01-02").hour == 0
    for bad in ("", "x", None, 5, float("nan"), b"2031-01-02", "2031-13-01", "2031-01-02T03:04:05+99:00"):
        with pytest.raises(ValueError):
            parse_eta(bad)


def test_building_refuses_what_is_no_call() -> None:
    for args in ("abc", {1}, 5, iter(())):
        with pytest.raises(TypeError, match="args"):
            build("i", "t", args)  # type: ignore[arg-type]
    for kwargs in ([], "a", 5):
        with pytest.raises(TypeError, match="kwargs"):
            build("i", "t", (), kwargs)  # type: ignore[arg-type]


@pytest.mark.row("WP12", "WP17")
def test_building_defaults() -> None:
    headers, body, properties = build("i", "t", headers={"shadow": "mine", "x": 1}, expiration="500", eta="")
    assert (headers["shadow"], headers["x"], headers["eta"], headers["root_id"]) == ("mine", 1, None, "i")
    assert body == ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
    assert (properties.priority, properties.delivery_mode, properties.expiration) == (0, 2, "500")
    assert (properties.correlation_id, properties.reply_to) == ("i", "")
    assert build("i", "t", correlation_id="other")[2].correlation_id == "other"


@pytest.mark.row("CA18")
def test_a_shadow_stands_for_the_name_where_a_message_is_shown() -> None:
    assert message().label == "t[i]"
    assert message(shadow="of it").label == "of it[i]"
    assert message(shadow="of\nit").label == "of\\nit[i]"
    assert message(shadow=3).label == "t[i]"
