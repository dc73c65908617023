"""What a program writes into ``task_queues`` without kombu means what it means with kombu."""

from __future__ import annotations

from typing import Any

import kombu
import pytest
from kombu import common

import turbo
from turbo.app.publish.queues import exchange_from, queue_from

LETTERS = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


def _tasks(of: Any) -> Any:
    return of.Exchange("tasks", type="topic", durable=False, auto_delete=True, arguments={"alternate-exchange": "a"})


@pytest.mark.parametrize(
    "make",
    [
        lambda of: of.Queue("plain"),
        lambda of: of.Queue("named", "direct-one"),
        lambda of: of.Queue("video", _tasks(of), routing_key="video.#"),
        lambda of: of.Queue("many", [of.binding(_tasks(of), "a.*"), of.binding(of.Exchange("other"), "b")]),
        lambda of: of.Queue("headers", bindings=[
            of.binding(of.Exchange("h", "headers"), arguments={"x-match": "any", "format": "pdf"})]),
        lambda of: of.Queue("limits", expires=1.5, message_ttl=2, max_length=3, max_length_bytes=4, max_priority=5),
        lambda of: of.Queue("letters", of.Exchange("x"), "k", queue_arguments=LETTERS, durable=False),
        lambda of: of.Queue("own", exclusive=True, consumer_arguments={"x-priority": 7}),
        lambda of: of.Queue("theirs", of.Exchange("theirs", no_declare=True), no_declare=True),
        lambda of: of.Queue("bound", of.Exchange("h", "headers"), binding_arguments={"x-match": "all", "a": 1}),
    ],
)  # fmt: skip
def test_a_queue_is_what_kombu_makes_of_the_same_words(make: Any) -> None:
    assert queue_from(make(turbo)) == queue_from(make(kombu))


def test_a_broadcast_has_a_queue_of_its_own_in_each_process() -> None:
    for of in (turbo, common):
        first, second = of.Broadcast("news"), of.Broadcast("news")
        assert first.name != second.name and first.alias == second.alias == "news"
        assert queue_from(first).name.startswith("bcast.") and queue_from(first).auto_delete
        assert exchange_from(first.exchange) == exchange_from(kombu.Exchange("news", "fanout"))
        assert of.Broadcast("news", queue="mine").name == "mine"
        assert of.Broadcast("news", queue="mine", unique=True).name.startswith("mine.")


@pytest.mark.parametrize("mode", ["persistent", 2, "transient", 1, None])
def test_delivery_modes_have_two_names(mode: Any) -> None:
    assert turbo.Exchange("x", delivery_mode=mode).delivery_mode == {"persistent": 2, "transient": 1}.get(mode, mode)


def test_a_delivery_mode_that_is_none() -> None:
    with pytest.raises(ValueError, match="safe"):
        turbo.Exchange("x", delivery_mode="safe")


def test_exchanges_are_values() -> None:
    assert turbo.Exchange("x") == turbo.Exchange("x") != turbo.Exchange("x", "topic")
    assert len({turbo.Exchange("x"), turbo.Exchange("x")}) == 1
    assert repr(turbo.Exchange("x", "topic")) == "<Exchange x(topic)>"
