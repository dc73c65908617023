"""What is declared, as values."""

from __future__ import annotations

import pytest

from turbo.amqp.topology import Binding, Exchange, Queue, queue_arguments, task_queue


@pytest.mark.row("WP25")
def test_a_bare_name_is_declared_as_celery_does() -> None:
    queue = task_queue("celery")
    assert (queue.name, queue.durable, queue.exclusive, queue.auto_delete) == ("celery", True, False, False)
    assert queue.queue_arguments == {}
    assert queue.all_bindings() == (Binding(Exchange("celery", "direct", True, False), "celery"),)


@pytest.mark.row("WP25", "CN21", "CN25")
def test_arguments_only_when_configured() -> None:
    assert task_queue("q", queue_type="quorum").queue_arguments == {"x-queue-type": "quorum"}
    assert task_queue("q", queue_type="quorum").quorum
    assert task_queue("q", queue_type="classic").queue_arguments == {}
    assert task_queue("q", max_priority=10).queue_arguments == {"x-max-priority": 10}


def test_named_options_become_arguments_in_milliseconds() -> None:
    found = queue_arguments({"x-mine": 1}, expires=1.5, message_ttl=2, max_length=3, max_length_bytes=4, max_priority=5)
    assert found == {
        "x-mine": 1,
        "x-expires": 1500,
        "x-message-ttl": 2000,
        "x-max-length": 3,
        "x-max-length-bytes": 4,
        "x-max-priority": 5,
    }


@pytest.mark.parametrize(
    "exchange, expected",
    [
        (Exchange("mine"), True),
        (Exchange(""), False),
        (Exchange("amq.topic", "topic"), False),
        (Exchange("mine", no_declare=True), False),
    ],
)
def test_the_brokers_own_exchanges_are_not_declared(exchange: Exchange, expected: bool) -> None:
    assert exchange.declarable is expected


def test_the_default_exchange_needs_no_binding() -> None:
    extra = Binding(Exchange("more", "topic"), "a.#")
    assert Queue("q", bindings=(extra,)).all_bindings() == (extra,)


@pytest.mark.parametrize(
    "queue, fixed",
    [
        (Queue("q"), False),
        (Queue("q", queue_arguments={"x-single-active-consumer": True}), True),
        (Queue("q", exclusive=True), True),
        (Queue("q", exclusive_consumer=True), True),
    ],
)
def test_where_the_window_may_not_change(queue: Queue, fixed: bool) -> None:
    assert queue.window_is_fixed is fixed


def test_values_can_be_keys() -> None:
    assert len({task_queue("a"), task_queue("a"), task_queue("b", max_priority=3)}) == 2
