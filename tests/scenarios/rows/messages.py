"""Messages: contents, headers, times, routes, and messages that a task sends."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.scenarios.rows.acks import OWN
from tests.scenarios.scenario import PROTOCOL_1, SUCCESS, Scenario, failed, ok, one

if TYPE_CHECKING:
    from tests.scenarios.sending import Sending

PLAIN = ["ä" * 500, 5, 1.5, None, [True, {"a": [1]}]]
TYPES = ["datetime", "date", "Decimal", "bytes", "datetime"]
TAGGED = (datetime(2030, 1, 2, 3, tzinfo=UTC), date(2030, 1, 2), Decimal("1.10"), b"\xff", datetime(2030, 1, 2))
PAST = datetime(2020, 1, 1, tzinfo=UTC)


def _protocol_1(to: Sending) -> None:
    to.send("report", "s.report", 1, "ä", kwargs={"k": 1}, protocol=1)
    to.send("retry", "s.retry", 1, protocol=1)
    to.send("failure", "s.fail", "old", protocol=1, link_error=to.sig("", "s.note_error"))
    to.send("linked", "s.add", 1, 2, protocol=1, link=to.sig("link", "s.add", 10))
    to.send("later", "s.add", 1, 2, protocol=1, countdown=0.3)


def _spawned(name: str, task: str, *args: object, end: object, children: dict[str, list[str]],
             ends: dict[str, object]) -> Scenario:  # fmt: skip
    return Scenario(
        name,
        lambda to: to.send("it", task, *args),
        {"it": ok(end), **{label: ok(value) for label, value in ends.items()}},
        children=children,
        heard={label: tuple(SUCCESS.split(", ")) for label in ["it", *ends]},
    )


ROWS = (
    one("request_fields", "s.report", 1, "ä", kwargs={"k": [1.5, True]}, end=ok(), smoke=True),
    one("headers", "s.report", headers={"tenant": "acme", "x-n": 5, "deep": {"a": [1, 2.5, None, True]}}, end=ok()),
    one("shadow", "s.report", shadow="alias", argsrepr="<hidden>", kwargsrepr="<too>", end=ok()),
    one("stamped", "s.report", stamped_headers=["s"], s="v", end=ok()),
    one("limits_in_fractions", "s.report", time_limit=30.5, soft_time_limit=20.25, end=ok()),
    one("past_eta", "s.report", eta=PAST, end=ok()),
    one("countdown", "s.add", 1, 2, countdown=0.4, end=ok(3), smoke=True),
    one("expires_later", "s.add", 1, 2, expires=600, end=ok(3)),
    one("member_of_a_group", "s.report", group_id="some-group", group_index=3, root_id="root", parent_id="up",
        end=ok()),
    one("json_tagged", "s.types", *TAGGED, end=ok(TYPES)),
    one("json_big", "s.echo", 2**63, 2**64, -(2**70), 1e300, end=ok([2**63, 2**64, -(2**70), 1e300])),
    one("yaml", "s.report", *PLAIN, serializer="yaml", end=ok(), smoke=True),
    one("msgpack", "s.report", *PLAIN, serializer="msgpack", end=ok(), smoke=True),
    one("pickle", "s.report", *PLAIN, serializer="pickle", end=ok(), smoke=True),
    one("pickle_objects", "s.types", {1, 2}, 1j, (1,), serializer="pickle", end=ok(["set", "complex", "tuple"])),
    one("gzip", "s.echo", *PLAIN, compression="gzip", end=ok(PLAIN), smoke=True),
    one("bzip2", "s.echo", *PLAIN, compression="bzip2", end=ok(PLAIN)),
    one("compressed_pickle", "s.types", {1}, serializer="pickle", compression="zlib", end=ok(["set"])),
    one("compressed_5_mb", "s.size", "x" * 5_000_000, compression="gzip", end=ok(5_000_000)),
    one("route_by_name", "s.encode", end=ok(["media", "video.hd.encode"]), smoke=True),
    one("route_by_pattern_and_retry", "s.thumbnail", end=ok(["media", "image.small"]),
        heard=f"child prerun, child retry, child postrun, {SUCCESS}"),
    one("exchange_and_key", "s.report", exchange="media", routing_key="video.sd", end=ok()),
    one("priority", "s.priority", queue="prio", priority=7, end=ok(7), smoke=True),
    Scenario(
        "protocol_1", _protocol_1,
        {"report": ok(), "retry": ok("after 1"), "failure": failed(OWN), "linked": ok(3), "link": ok(13),
         "later": ok(3)},
        celery_only=PROTOCOL_1, smoke=True,
    ),
    _spawned("children", "s.spawn", 5, end=5, children={"it": ["it-one", "it-two"]},
             ends={"it-one": 6, "it-two": 7, "it-untold": 8}),
    _spawned("child_report", "s.spawn_report", end=None, children={"it": ["it-child"]}, ends={}),
    _spawned("children_of_a_group", "s.spawn_group", 5, end=["it-member1", "it-member2"], children={},
             ends={"it-member1": 6, "it-member2": 7}),
    _spawned("children_of_a_chain", "s.spawn_chain", 5, end="it-last", children={},
             ends={"it-first": 6, "it-last": 16}),
    one("calls_inside", "s.call_inside", 5, end=ok([6, 7, 8])),
)  # fmt: skip
