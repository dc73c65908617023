"""Result documents as rows of Celery's table."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.exceptions import DecodeError, EncodeError
from turbo.protocol.result_meta import build_meta
from turbo.protocol.result_row import ResultRow, pack, row_of, unpack

_BLOBS = st.none() | st.binary(max_size=300)
_TEXTS = st.none() | st.text(st.characters(exclude_categories=()), max_size=300)
_ROWS = st.builds(
    ResultRow, st.text(max_size=20), _TEXTS, _TEXTS, _BLOBS, _BLOBS, _TEXTS, _BLOBS, _BLOBS, _TEXTS,
    st.none() | st.integers(0, 2**31), _TEXTS, _BLOBS,
)  # fmt: skip


@given(_ROWS)
def test_a_packed_row_is_the_row(row: ResultRow) -> None:
    assert unpack(pack(row)) == row


@given(st.binary(max_size=200) | _ROWS.map(pack).map(lambda packed: packed[:-1]))
def test_other_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(packed)


@pytest.mark.parametrize(("serializer", "loads"), [("json", json.loads), ("pickle", pickle.loads)])
def test_the_columns_of_a_document(serializer: str, loads: object) -> None:
    assert callable(loads)
    meta = build_meta(
        "id", "SUCCESS", {"a": 1}, None, children=[[["c", None], None]], date_done="2030-01-02T03:04:05+00:00",
        group_id="g", parent_id="p",
        extended={"name": "add", "args": [1], "kwargs": {}, "worker": "w@h", "retries": 2, "queue": "q",
                  "stamped_headers": ["tenant"], "tenant": ["t"]},
    )  # fmt: skip
    row = row_of(meta, serializer)
    assert (row.status, row.date_done, row.traceback) == ("SUCCESS", "2030-01-02T03:04:05+00:00", None)
    assert (row.name, row.worker, row.retries, row.queue) == ("add", "w@h", 2, "q")
    assert [loads(blob) for blob in (row.result, row.children, row.args, row.kwargs)] == [
        {"a": 1}, [[["c", None], None]], [1], {},
    ]  # fmt: skip
    assert loads(row.stamps) == {"stamped_headers": ["tenant"], "stamps": {"tenant": ["t"]}}


def test_what_a_document_does_not_have_is_null() -> None:
    row = row_of(build_meta("id", "STARTED", None, None), "json")
    assert row == ResultRow("STARTED", result=b"null")


def test_a_value_that_does_not_encode() -> None:
    with pytest.raises(EncodeError):
        row_of(build_meta("id", "SUCCESS", object(), None), "json")
