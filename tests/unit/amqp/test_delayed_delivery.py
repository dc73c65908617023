"""Where the cascade leads a delayed message, walked by the rules of a topic exchange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.amqp.delayed_delivery import DELIVERY, LEVELS, cascade, delivery_bindings, level_name, uses_cascade
from turbo.amqp.topology import Binding, Exchange, Queue

QUORUM = {"x-queue-type": "quorum"}


def _matches(pattern: str, key: str) -> bool:
    words, parts = key.split("."), pattern.split(".")
    if parts[-1] == "#":
        parts, words = parts[:-1], words[: len(parts) - 1]
    return len(parts) == len(words) and all(p in ("*", w) for p, w in zip(parts, words, strict=True))


@given(st.integers(0, 2**LEVELS - 1))
def test_a_message_waits_exactly_its_seconds_and_arrives(seconds: int) -> None:
    queues, between = cascade()
    key = ".".join(f"{seconds:0{LEVELS}b}") + ".slow.one"
    at, waited = level_name(LEVELS - 1), 0
    while at != DELIVERY.name:
        held = [q for q in queues if q.exchange.name == at and _matches(q.routing_key, key)]
        passed = [b.destination for b in between if b.source == at and _matches(b.routing_key, key)]
        assert len(held) + len(passed) == 1
        if held:
            waited += int(held[0].queue_arguments["x-message-ttl"]) // 1000  # type: ignore[call-overload]
            at = str(held[0].queue_arguments["x-dead-letter-exchange"])
        else:
            at = passed[0]
    assert waited == seconds


@pytest.mark.parametrize(
    ("queue", "wanted"),
    [
        (Queue("q", Exchange("t", "topic"), "q", queue_arguments=QUORUM), True),
        (Queue("q", Exchange("t", "topic"), "q"), False),
        (Queue("q", Exchange("q", "direct"), "q", queue_arguments=QUORUM), False),
    ],
)
def test_only_quorum_queues_that_are_not_behind_direct_exchanges_want_it(queue: Queue, wanted: bool) -> None:
    assert uses_cascade(queue) is wanted


def test_delivery_bindings_accept_any_digits_before_the_key() -> None:
    topic = Exchange("t", "topic")
    outer, inner = delivery_bindings(
        Queue("q", topic, "a.b", bindings=(Binding(topic, "#.c"),), queue_arguments=QUORUM)
    )
    assert {one.routing_key for one in outer} <= {"#.a.b", "#.c"}
    assert [one.routing_key for one in inner] == [one.routing_key for one in outer]
    assert all(one.source == DELIVERY.name and one.destination == "t" for one in outer)
