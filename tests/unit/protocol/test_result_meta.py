"""Result documents, as Celery's clients read them."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from turbo.exceptions import EncodeError
from turbo.protocol.result_meta import build_meta, encode_meta


@pytest.mark.row("ST3", "ST23")
def test_the_common_keys_are_always_there() -> None:
    meta = build_meta("i", "SUCCESS", 5, None, date_done="2031-01-02T00:00:00+00:00")
    assert json.loads(encode_meta(meta)) == {
        "status": "SUCCESS",
        "result": 5,
        "traceback": None,
        "children": [],
        "date_done": "2031-01-02T00:00:00+00:00",
        "task_id": "i",
    }


@pytest.mark.row("ST22", "ST23")
def test_the_others_only_when_set() -> None:
    meta = build_meta(
        "i",
        "FAILURE",
        {"exc_type": "E"},
        "tb",
        children=((("c", None), None),),
        group_id="g",
        parent_id="p",
        extended={"name": "t", "stamps": 1},
    )
    found = json.loads(encode_meta(meta))
    assert (found["group_id"], found["parent_id"], found["name"], found["stamps"]) == ("g", "p", "t", 1)
    assert found["children"] == [[["c", None], None]]
    assert {"group_id", "parent_id"}.isdisjoint(build_meta("i", "S", 1, None, group_id="", parent_id=None))
    own: list[Any] = [1]
    assert build_meta("i", "S", 1, None, children=own)["children"] == [1]


@pytest.mark.row("ST3")
def test_celery_reads_it() -> None:
    celery = importlib.import_module("celery")
    app = celery.Celery(backend="cache+memory://", set_as_current=False)
    assert app.backend.decode_result(encode_meta(build_meta("i", "SUCCESS", [1], None)))["result"] == [1]


def test_a_result_that_json_cannot_carry() -> None:
    with pytest.raises(EncodeError):
        encode_meta(build_meta("i", "SUCCESS", {1}, None))
