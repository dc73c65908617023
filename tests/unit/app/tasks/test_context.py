from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.app.recording import deliver_args
from turbo.app.tasks.context import Context
from turbo.protocol.properties import Properties
from turbo.protocol.republishing import DEATH_HEADERS

HEADERS = {"id": "ID", "expires": "2031-01-01T00:00:00"}


def message(**fields: Any) -> Any:
    given: dict[str, Any] = {
        "id": "ID", "task": "proj.add", "args": [1], "kwargs": {"y": 2}, "retries": 3, "root_id": "ROOT",
        "parent_id": "PARENT", "group": "G", "group_index": 4, "origin": "gen1@h", "reply_to": "RT",
        "correlation_id": "ID", "eta": datetime(2030, 1, 1, tzinfo=UTC), "expires": datetime(2031, 1, 1, tzinfo=UTC),
        "timelimit": [30, 20.5], "callbacks": None, "errbacks": ["e"], "chain": ["c"], "chord": {"b": 1},
        "headers": {"tenant": "t1"}, "ignore_result": True, "replaced_task_nesting": 1, "shadow": "sh",
        "stamped_headers": ["s"], "stamps": {"s": "v", "unlisted": 1}, "utc": None,
        "properties": Properties(priority=5, headers=dict(HEADERS), delivery_mode=2),
    }  # fmt: skip
    return SimpleNamespace(**(given | fields))


def delivered(**fields: Any) -> Context:
    return Context.from_message(message(**fields), deliver_args("ex", "key", redelivered=True), "celery@host")


@pytest.mark.row(
    "EX8", "EX9", "EX10", "EX11", "EX12", "EX13", "EX14", "EX15", "EX16", "EX17", "EX18", "EX20", "EX21", "EX22",
    "EX23", "EX24", "EX25", "EX26", "EX27", "EX29", "EX30",
)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "ID"), ("group", "G"), ("chord", {"b": 1}), ("correlation_id", "ID"), ("args", [1]),
        ("kwargs", {"y": 2}), ("origin", "gen1@h"), ("retries", 3), ("is_eager", False),
        ("eta", "2030-01-01T00:00:00+00:00"), ("expires", "2031-01-01T00:00:00"), ("hostname", "celery@host"),
        ("reply_to", "RT"), ("called_directly", False), ("timelimit", [30, 20.5]), ("time_limit", 30),
        ("soft_time_limit", 20.5), ("callbacks", None), ("errbacks", ["e"]), ("utc", None),
        ("headers", {"tenant": "t1"}), ("root_id", "ROOT"), ("parent_id", "PARENT"), ("chain", ["c"]),
        ("replaced_task_nesting", 1), ("stamps", {"s": "v", "unlisted": 1}), ("stamped_headers", ["s"]),
        ("group_index", 4), ("ignore_result", True), ("shadow", "sh"), ("task", "proj.add"), ("tenant", "t1"),
    ],
)  # fmt: skip
def test_attributes_of_a_delivered_message(name: str, value: object) -> None:
    request = delivered()
    assert getattr(request, name) == value
    assert request.get(name) == value


@pytest.mark.row("EX19")
def test_delivery_info_is_made_once_and_is_the_requests_own() -> None:
    request = delivered()
    assert request.delivery_info == {"exchange": "ex", "routing_key": "key", "priority": 5, "redelivered": True}
    assert request.delivery_info is request.delivery_info
    assert delivered().delivery_info is not request.delivery_info


@pytest.mark.row("EX28")
def test_properties_are_those_that_were_set() -> None:
    assert delivered().properties == {"priority": 5, "delivery_mode": 2, "application_headers": HEADERS}


def test_anything_can_be_set() -> None:
    request = delivered()
    request.id = "other"
    request.mine = 1
    request.update(retries=9)
    assert (request.id, request.mine, request.retries) == ("other", 1, 9)
    request.clear()
    assert (request.id, request.retries) == ("ID", 3)


@pytest.mark.row("EX21")
def test_a_context_of_ones_own() -> None:
    request = Context(id="x", retries=2, timelimit=[9, 8], custom="h", args=(1,))
    assert request.called_directly and request.retries == 2
    assert (request.time_limit, request.soft_time_limit) == (9, 8)
    assert request.headers == {"custom": "h"} and request.custom == "h"
    assert (request.delivery_info, request.properties, request.eta, request.chord) == (None, None, None, None)
    assert Context({"id": "m"}).id == "m" and Context().headers is None
    with pytest.raises(AttributeError, match="nothing"):
        _ = Context().nothing
    assert Context().get("nothing", 5) == 5


@pytest.mark.row("CA33")
def test_children_are_the_requests_own() -> None:
    one, other = delivered(), delivered()
    one.children.append("r")
    assert (one.children, other.children) == (["r"], [])


@pytest.mark.row("WP20")
def test_ignoring_the_result_is_explicit_or_nothing() -> None:
    assert delivered().explicit_ignore_result is True
    assert delivered(ignore_result=None).explicit_ignore_result is None
    assert Context().explicit_ignore_result is None
    assert Context(ignore_result=False).explicit_ignore_result is False


@pytest.mark.row("RT19", "RT22", "WP17", "WP18")
def test_execution_options_repeat_the_call() -> None:
    headers = {"tenant": "t1"} | dict.fromkeys(DEATH_HEADERS, "x")
    options = delivered(headers=headers).as_execution_options()
    assert options == {
        "task_id": "ID", "root_id": "ROOT", "parent_id": "PARENT", "group_id": "G", "group_index": 4,
        "shadow": "sh", "chord": {"b": 1}, "chain": ["c"], "link": None, "link_error": ["e"],
        "expires": "2031-01-01T00:00:00", "soft_time_limit": 20.5, "time_limit": 30, "headers": {"tenant": "t1"},
        "retries": 3, "reply_to": "RT", "replaced_task_nesting": 1, "origin": "gen1@h",
        "stamped_headers": ["s"], "s": "v",
    }  # fmt: skip


def test_the_body_is_claimed_once_and_only_for_a_worker() -> None:
    request = delivered()
    assert [request.claim_call(), request.claim_call()] == [True, False]
    assert not Context().claim_call()


def test_repr_names_what_is_there() -> None:
    assert "'id': 'ID'" in repr(delivered())
