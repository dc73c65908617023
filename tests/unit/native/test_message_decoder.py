"""Which messages the master may decode that were being decoded when their children died."""

from __future__ import annotations

import pytest

from tests.unit.app.recording import deliver_args
from turbo import Turbo
from turbo.master.delivery.ledger import Delivery
from turbo.native.message_decoder import MessageDecoder
from turbo.protocol import message
from turbo.protocol.properties import encode_header


@pytest.mark.parametrize(
    ("undecodable", "content_type", "packed", "size", "expected"),
    [
        (False, "application/x-python-serialize", True, 5_000_000, False),
        (True, "application/json", False, 100, False),
        (True, "application/json", True, 100, True),
        (True, "application/json", False, 5_000_000, True),
        (True, "application/x-python-serialize", False, 100, True),
        (True, "application/x-yaml", False, 100, True),
    ],
)
def test_what_is_undecodable(undecodable: bool, content_type: str, packed: bool, size: int, expected: bool) -> None:
    headers, _, properties = message.build("id", "task", (), {})
    if packed:
        headers["compression"] = "application/x-gzip"
    properties.headers, properties.content_type = headers, content_type
    delivery = Delivery(1, "q", 1, deliver_args("", "q"), encode_header(properties, size), b" " * size)
    delivery.undecodable = undecodable
    app = Turbo("decoder", set_as_current=False)
    assert MessageDecoder(app, None).is_undecodable(delivery) is expected  # type: ignore[arg-type]
