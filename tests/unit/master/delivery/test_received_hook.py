"""Reporting each message to the app: what waits, what is not reported, and what comes too late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.received_hook import ReceivedHook
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.hooks import OutcomeHooks


class Listener:
    """Outcome hooks that answer when the test calls ``then``."""

    reports_received = True

    def __init__(self) -> None:
        self.reports: list[tuple[Delivery, Callable[[], None]]] = []

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        self.reports.append((delivery, then))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def went_on() -> list[Delivery]:
    return []


def received_hook(listener: Listener, went_on: list[Delivery], message: Any) -> ReceivedHook:
    failure_documents = SimpleNamespace(message=lambda delivery: message)
    return ReceivedHook(cast("OutcomeHooks", listener), cast("FailureDocuments", failure_documents), went_on.append)


def delivery(tag: int) -> Delivery:
    return Delivery(1, "celery", tag, b"", b"", b"")


PLAIN = SimpleNamespace(expires=None)


@pytest.mark.row("SG9")
def test_a_delivery_goes_on_once_the_app_has_heard_of_it(listener: Listener, went_on: list[Delivery]) -> None:
    held = received_hook(listener, went_on, PLAIN)
    first, second = delivery(1), delivery(2)
    assert held.hold(first)
    assert held.hold(second)
    assert went_on == []
    listener.reports[0][1]()
    assert went_on == [first]
    assert held.withdraw() == [second]


def test_what_was_withdrawn_does_not_go_on(listener: Listener, went_on: list[Delivery]) -> None:
    held = received_hook(listener, went_on, PLAIN)
    held.hold(delivery(1))
    held.withdraw()
    listener.reports[0][1]()
    assert went_on == []
    assert held.withdraw() == []


def test_an_expired_or_unreadable_message_is_not_reported(listener: Listener, went_on: list[Delivery]) -> None:
    expired = SimpleNamespace(expires=datetime.now(UTC) - timedelta(hours=1))
    for message in (None, expired):
        assert not received_hook(listener, went_on, message).hold(delivery(1))
    valid = SimpleNamespace(expires=datetime.now(UTC) + timedelta(hours=1))
    assert received_hook(listener, went_on, valid).hold(delivery(2))
    assert len(listener.reports) == 1
