"""The texts of events about failures: bounded, and never an error themselves."""

from __future__ import annotations

import json

from turbo.child import event_texts
from turbo.ring import frames
from turbo.ring.control_page import ChildPage, MasterPage
from turbo.ring.layout import PAGE_SIZE

WORDS = memoryview(bytearray(PAGE_SIZE)).cast("Q")
PAGE = ChildPage(WORDS)
MasterPage(WORDS).set_events(True)


def unpacked(packed: bytes, offset: int) -> tuple[str, str, int]:
    first, second, end = frames.unpack_texts(packed, offset)
    return json.loads(first), json.loads(second), end


def test_the_repr_and_the_end_of_a_long_traceback() -> None:
    first, second, end = unpacked(packed := event_texts.of_error(PAGE, ValueError("x" * 10_000), "a" + "b" * 50_000), 0)
    assert first.startswith("ValueError('xxx")
    assert len(first) == 4_000
    assert set(second) == {"b"}
    assert len(second) == 20_000
    assert end == len(packed)


def test_whatever_an_error_is() -> None:
    class Rude(Exception):
        def __repr__(self) -> str:
            raise RuntimeError

    assert unpacked(event_texts.of_error(PAGE, Rude(), None), 0)[:2] == (
        "<Unrepresentable Rude: RuntimeError>",
        "",
    )
    assert unpacked(event_texts.of_error(PAGE, ValueError("\ud800"), "\ud800"), 0)[1] == "\ud800"
    assert unpacked(event_texts.of_error(PAGE, None, None), 0)[:2] == ("None", "")


def test_there_are_none_while_no_events_are_sent() -> None:
    page = ChildPage(memoryview(bytearray(PAGE_SIZE)).cast("Q"))
    assert event_texts.of_error(page, ValueError(), "trace") == event_texts.of_result(page, 1, 100) == b""
    assert unpacked(event_texts.of_result(PAGE, "x", 100), 0)[0] == "'x'"
