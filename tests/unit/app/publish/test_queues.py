from __future__ import annotations

from typing import Any

import kombu
import pytest

from turbo.amqp.topology import Binding, Exchange, Queue
from turbo.app.conf.conf import Settings
from turbo.app.publish.queues import Queues, queue_from
from turbo.exceptions import ImproperlyConfigured


def queues(**settings: Any) -> Queues:
    return Queues(Settings(settings))


@pytest.mark.row("CF7")
def test_a_dict_of_options() -> None:
    made = queues(
        task_queues={
            "cpu": {"binding_key": "cpu.#", "exchange": "work", "exchange_type": "topic"},
            "plain": {},
            "odd": {"durable": False, "auto_delete": True, "queue_arguments": {"x-max-length": 3}, "max_priority": 9},
        }
    )
    assert made["cpu"] == Queue("cpu", Exchange("work", "topic"), "cpu.#")
    assert made["plain"] == Queue("plain", Exchange("celery"), "plain")
    odd = made["odd"]
    assert (odd.durable, odd.auto_delete, odd.exchange.durable) == (False, True, True)
    assert odd.queue_arguments == {"x-max-length": 3, "x-max-priority": 9}


@pytest.mark.row("WP25", "CF7")
def test_queues_without_exchange_or_key_get_the_default_ones_as_in_celery() -> None:
    made = queues(task_queues=[Queue("a"), kombu.Queue("b"), kombu.Queue("c", routing_key="cc")])
    assert made["a"] == Queue("a", Exchange("celery"), "celery")
    assert made["b"] == Queue("b", Exchange("celery"), "celery")
    assert made["c"].routing_key == "cc"


@pytest.mark.row("CF12")
def test_the_greatest_priority_is_added_where_none_is_set() -> None:
    made = queues(
        task_queues=[Queue("a"), Queue("b", queue_arguments={"x-max-priority": 3})], task_queue_max_priority=10
    )
    assert [made[n].queue_arguments["x-max-priority"] for n in ("a", "b", "made-up")] == [10, 3, 10]


def test_kombus_bindings() -> None:
    bound = kombu.Queue(
        "n", [kombu.binding(kombu.Exchange("x", "topic"), "k.1"), kombu.binding(kombu.Exchange("y"), "k.0")]
    )
    assert queue_from(bound).bindings == (Binding(Exchange("y"), "k.0"), Binding(Exchange("x", "topic"), "k.1"))


def test_kombus_times_are_seconds() -> None:
    given = kombu.Queue("n", expires=1.5, message_ttl=2, max_length=3, max_length_bytes=4, exclusive=True)
    queue = queue_from(given)
    assert queue.queue_arguments == {
        "x-expires": 1500, "x-message-ttl": 2000, "x-max-length": 3, "x-max-length-bytes": 4,
    }  # fmt: skip
    assert queue.exclusive and queue.auto_delete


class TestConsumed:
    @pytest.mark.row("CL1")
    def test_all_configured_by_default_and_nothing_made_up_since(self) -> None:
        made = queues(task_queues=[Queue("a"), Queue("b")])
        _ = made["c"]
        assert [q.name for q in made.consumed()] == ["a", "b"]
        assert [q.name for q in queues().consumed()] == ["celery"]

    def test_included_and_excluded(self) -> None:
        made = queues(task_queues=[Queue("a"), Queue("b")])
        assert [q.name for q in made.consumed(["b", "new", "b"])] == ["b", "new"]
        assert [q.name for q in made.consumed(None, ["a", "nonsense"])] == ["b"]

    def test_aliases(self) -> None:
        from kombu.common import Broadcast

        made = queues(task_queues=[Broadcast("news"), Queue("a")])
        assert made.consumed(["news"])[0].exchange == Exchange("news", "fanout")
        assert [q.name for q in made.consumed(None, ["news"])] == ["a"]

    def test_unknown_and_not_to_be_made_up(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="nowhere"):
            queues(task_create_missing_queues=False).consumed(["nowhere"])
