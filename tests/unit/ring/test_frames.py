"""What travels in the rings, packed and unpacked, and refused when it was cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.ring import frames

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
BYTES = st.binary(max_size=50)
STORES = st.builds(frames.StoreRequest, NAMES, BYTES, st.booleans(), NAMES, NAMES, NAMES, NAMES)
PUBLISHES = st.builds(frames.PublishRequest, NAMES, NAMES, BYTES, BYTES, st.booleans(), st.booleans())
U64 = st.integers(0, 2**64 - 1)


@given(st.integers(0, 2**31 - 1).map(lambda number: number * 2), BYTES, BYTES, BYTES)
def test_a_task_comes_out_as_it_went_in(flags: int, deliver: bytes, header: bytes, body: bytes) -> None:
    record = b"".join(frames.pack_task(flags, deliver, header, body))
    assert frames.unpack_task(record) == (flags, deliver, header, body)


@given(st.none() | st.floats(0.1, 1e6), st.none() | st.floats(0.1, 1e6), BYTES, BYTES, BYTES)
def test_a_task_with_new_limits_comes_out_as_it_went_in(
    hard: float | None, soft: float | None, deliver: bytes, header: bytes, body: bytes
) -> None:
    record = b"".join(frames.pack_limited_task(hard, soft, deliver, header, body))
    assert frames.unpack_task(record) == (frames.NEW_LIMITS, deliver, header, body)
    assert frames.unpack_limits(record) == (hard, soft)


@given(st.integers(0, 255), U64, U64, st.floats(allow_nan=False))
def test_a_start_comes_out_as_it_went_in(flags: int, soft: int, hard: int, limit: float) -> None:
    assert frames.unpack_started(frames.pack_started(flags, soft, hard, limit)) == (flags, soft, hard, limit)


@given(STORES)
def test_a_document_comes_out_as_it_went_in(store: frames.StoreRequest) -> None:
    assert frames.unpack_store(frames.pack_store(store)) == store
    assert frames.unpack_store(b"before" + frames.pack_store(store), 6) == store


@given(PUBLISHES)
def test_a_message_comes_out_as_it_went_in(request: frames.PublishRequest) -> None:
    assert frames.unpack_publish(b"".join(frames.pack_publish(request))) == request


@given(st.integers(0, 255), st.integers(0, 255), U64, U64, st.none() | STORES)
def test_an_end_comes_out_as_it_went_in(
    verb: int, ending: int, runtime: int, due: int, store: frames.StoreRequest | None
) -> None:
    tail = b"" if store is None else frames.pack_store(store)
    record = frames.pack_done(verb, ending, frames.FOR_HOOKS, runtime, due, tail)
    found = frames.unpack_done(record)
    assert found == frames.Done(verb, ending, frames.FOR_HOOKS, runtime, due, store)
    assert frames.unpack_done_head(record) == (verb, ending, frames.FOR_HOOKS, runtime, due)


_STORE = frames.pack_store(frames.StoreRequest("id", b"document", True, "reply", "id", "application/json", "utf-8"))
_WHOLE: dict[str, tuple[Any, bytes]] = {
    "started": (frames.unpack_started, frames.STARTED_EARLY),
    "store": (frames.unpack_store, _STORE),
    "publish": (
        frames.unpack_publish,
        b"".join(frames.pack_publish(frames.PublishRequest("e", "k", b"header", b"body", True))),
    ),
    "batch": (frames.unpack_batch, b"".join(frames.pack_batch([(b"one", b""), (b"", b"two", b"more")]))),
    "done": (frames.unpack_done, frames.pack_done(1, 1, 0, 1, 0, _STORE)),
}


@pytest.mark.parametrize("kind", _WHOLE)
def test_a_record_that_was_cut_or_grew_is_refused(kind: str) -> None:
    unpack, record = _WHOLE[kind]
    unpack(record)
    # Without its document an end is whole again.
    whole = {frames.DONE_SIZE} if kind == "done" else set()
    for size in set(range(len(record))) - whole:
        with pytest.raises(frames.FrameError):
            unpack(record[:size])
    with pytest.raises(frames.FrameError):
        unpack(record + b"x")


@given(records=st.lists(st.lists(st.binary(), max_size=3), max_size=5))
def test_a_batch_comes_out_as_it_went_in(records: list[list[bytes]]) -> None:
    record = b"".join(frames.pack_batch(records))
    assert frames.unpack_batch(record) == [b"".join(parts) for parts in records]


def test_a_task_that_was_cut_in_its_parts_is_refused() -> None:
    record = b"".join(frames.pack_task(0, b"deliver", b"header", b""))
    with pytest.raises(frames.FrameError):
        frames.unpack_task(record[:-1])
