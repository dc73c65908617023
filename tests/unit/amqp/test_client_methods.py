from __future__ import annotations

from typing import Any

import pika.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.amqp.client import methods
from turbo.amqp.client.methods import BadFrame, Confirmations, FrameReader


def decoded(data: bytes) -> Any:
    size, frame = pika.frame.decode_frame(data)
    assert size == len(data)
    return frame


def fields(frame: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(frame.method).items() if not name.startswith("_")}


def test_methods_are_those_of_the_specification() -> None:
    """pika's codec reads what we write."""
    start = decoded(methods.start_ok("me", "pä", {"product": "turbo"}))
    assert start.method.response == b"\0me\0p\xc3\xa4" and start.method.client_properties == {"product": "turbo"}
    assert fields(decoded(methods.tune_ok(7, 4096))) == {"channel_max": 7, "frame_max": 4096, "heartbeat": 0}
    assert decoded(methods.open_connection("/v")).method.virtual_host == "/v"
    assert decoded(methods.close(0)).method.NAME == "Connection.Close"
    assert decoded(methods.close(1)).method.NAME == "Channel.Close"
    exchange = decoded(methods.declare_exchange(1, "e", "topic", True, False, {"a": 1}))
    assert fields(exchange) | {"ticket": 0} == {
        "ticket": 0, "exchange": "e", "type": "topic", "passive": False, "durable": True, "auto_delete": False,
        "internal": False, "nowait": False, "arguments": {"a": 1},
    }  # fmt: skip
    queue = decoded(methods.declare_queue(1, "q", False, True, True, {}))
    assert (queue.method.durable, queue.method.exclusive, queue.method.auto_delete) == (False, True, True)
    bind = decoded(methods.bind_queue(1, "q", "e", "k", {"x": "y"}))
    assert (bind.method.queue, bind.method.exchange, bind.method.routing_key) == ("q", "e", "k")
    assert bind.method.arguments == {"x": "y"}
    exchanges = decoded(methods.bind_exchange(1, "to", "from", "k"))
    assert fields(exchanges) | {"ticket": 0} == {
        "ticket": 0, "destination": "to", "source": "from", "routing_key": "k", "nowait": False, "arguments": {},
    }  # fmt: skip
    for number, name in (
        (methods.CHANNEL_OPEN, "Channel.Open"), (methods.CONFIRM_SELECT, "Confirm.Select"),
        (methods.CONNECTION_CLOSE_OK, "Connection.CloseOk"), (methods.CHANNEL_CLOSE_OK, "Channel.CloseOk"),
    ):  # fmt: skip
        assert decoded(methods.method(1, number, b"\0")).method.NAME == name


def test_numbers_of_the_answers() -> None:
    for name, number in vars(methods).items():
        if not name.isupper() or not isinstance(number, int) or number < 0x000A0000:
            continue
        assert pika.spec.methods[number].NAME.replace(".", "_").upper() == _upper(name)


def _upper(name: str) -> str:
    return {"CONNECTION_START_OK": "CONNECTION_STARTOK"}.get(name, name.replace("_OK", "OK"))


@given(payloads=st.lists(st.binary(max_size=40), max_size=8), data=st.data())
def test_frames_survive_any_cutting(payloads: list[bytes], data: Any) -> None:
    stream = b"".join(b"\x03\0\x01" + len(p).to_bytes(4, "big") + p + b"\xce" for p in payloads)
    reader, found, at = FrameReader(1000), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 30))
        found += [payload for _, _, payload in reader.feed(stream[at : at + step])]
        at += step
    assert found == payloads


@pytest.mark.parametrize(
    "data", [b"AMQP\0\0\x09\x01", b"HTTP/1.1 400 Bad Request", b"\x01\0\0\xff\xff\xff\xff", b"\x01\0\0\0\0\0\0x"]
)
def test_what_is_no_frame(data: bytes) -> None:
    with pytest.raises(BadFrame):
        list(FrameReader(131072).feed(data))


def test_short_strings_have_a_limit() -> None:
    with pytest.raises(ValueError, match="255"):
        methods.short_string("x" * 256)


def test_confirmations_in_any_order() -> None:
    book = Confirmations()
    assert [book.published() for _ in range(5)] == [1, 2, 3, 4, 5]
    book.settle(2, False, False)
    assert book.up_to == 0
    book.settle(1, False, True)
    assert book.up_to == 2 and book.refused(1) and not book.refused(1) and not book.refused(2)
    book.settle(5, True, False)
    assert book.up_to == 5
