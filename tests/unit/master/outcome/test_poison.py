"""A message that kills its child comes back as it was, with a higher count, until it is given up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.fakes import BODY, QUEUE, deliver_args, header_of
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.poison import Poison
from turbo.policy.poison import DELIVERIES, REASON
from turbo.policy.settling import Verb
from turbo.policy.task_options import TaskOptions
from turbo.protocol.properties import decode_header, encode_header
from turbo.ring.frames import PublishRequest


class Settlement:
    """Notes what is published and how each delivery ends."""

    def __init__(self) -> None:
        self.published: list[PublishRequest] = []
        self.ends: list[tuple[Verb, object]] = []

    def publish(self, _delivery: Delivery, request: PublishRequest, *, essential: bool) -> None:
        assert essential, "it would be lost if no queue took it"
        self.published.append(request)

    def finish(self, _delivery: Delivery, verb: Verb, store: object) -> None:
        self.ends.append((verb, store))


def die(header: bytes) -> Settlement:
    """Have a message with this header kill its child; three deaths are the most."""
    settlement: Any = Settlement()
    poison = Poison(settlement, FailureDocuments({"t": TaskOptions("t")}, stores=True), max_deliveries=3)
    poison.return_after_death(Delivery(1, QUEUE, 1, deliver_args(1, False), header, BODY), "signal 9", None)
    noted: Settlement = settlement
    return noted


@pytest.mark.parametrize("before", [0, 1, 2])
def test_its_headers_stay_and_the_count_rises(before: int) -> None:
    properties, _size = decode_header(header_of("id", "t"))
    properties.headers = {**(properties.headers or {}), "mine": "kept"}
    if before:
        properties.headers[DELIVERIES] = before
    sent = die(encode_header(properties, len(BODY)))
    (request,) = sent.published
    assert (request.exchange, request.routing_key, request.body) == ("", QUEUE, BODY)
    again, size = decode_header(request.header)
    assert size == len(BODY)
    assert again.headers == {**properties.headers, DELIVERIES: before + 1, REASON: "signal 9"}
    assert sent.ends == [(Verb.ACK, None)]


def test_one_whose_headers_cannot_be_read_is_rejected_at_once() -> None:
    sent = die(b"\0")
    assert (sent.published, sent.ends) == ([], [(Verb.REJECT, None)])
