"""A worker's state: what is written is read, what Celery writes is read, and anything else is refused."""

from __future__ import annotations

import os
import pickle
import zlib

import pytest
from celery.utils.collections import LimitedSet
from hypothesis import given
from hypothesis import strategies as st

from turbo.protocol.worker_state import StateError, WorkerState, dump, load, load_celerys

states = st.builds(WorkerState, st.lists(st.text()).map(tuple), st.integers(0, 2**62))


@pytest.mark.row("TM13")
@given(states)
def test_what_is_written_is_read(state: WorkerState) -> None:
    assert load(dump(state)) == state


@given(st.binary())
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        load(data)
    with pytest.raises(StateError):
        load_celerys({"clock": data, "zrevoked": data})


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", '{"version": 2, "clock": 1, "revoked": []}', '{"version": 1, "clock": -1, "revoked": []}',
        '{"version": 1, "clock": true, "revoked": []}', '{"version": 1, "clock": 1, "revoked": [3]}',
        '{"version": 1, "clock": 1, "revoked": "abc"}', "[" * 100_000,
    ],
)  # fmt: skip
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(StateError):
        load(text.encode())


def _entries(revoked: object, clock: object = 7) -> dict[str, bytes]:
    return {"clock": pickle.dumps(clock), "zrevoked": pickle.dumps(zlib.compress(pickle.dumps(revoked)))}


@pytest.mark.row("TM13")
def test_celerys_set_of_ids_is_read_in_its_order() -> None:
    ids = LimitedSet(maxlen=10, expires=100)
    for number, name in enumerate("cab"):
        ids.add(name, now=float(number))
    assert load_celerys(_entries(ids)) == WorkerState(("c", "a", "b"), 7)
    assert load_celerys(_entries({"a": 1.0, "b": 2.0})) == WorkerState(("a", "b"), 7)
    assert load_celerys({}) == WorkerState()


def test_a_pickle_runs_no_code() -> None:
    class Evil:
        def __reduce__(self) -> object:
            return os.abort, ()

    for entries in (_entries(Evil()), _entries([], Evil()), _entries([Evil()])):
        with pytest.raises(StateError, match="not part of a state"):
            load_celerys(entries)
