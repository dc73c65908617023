"""What is read from an invalid message: enough to answer a client that waits for its result."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.protocol.message import parse, salvage
from turbo.protocol.properties import Properties

BODY = b"[[], {}, {}]"


def props(**headers: Any) -> Properties:
    return Properties(headers=headers, reply_to="r", correlation_id="c")


@pytest.mark.parametrize("wrong", [{"retries": "x"}, {"timelimit": 5}, {"eta": "never"}, {"root_id": {}}])
def test_id_task_and_reply_queue_survive_a_wrong_field(wrong: dict[str, Any]) -> None:
    found = salvage(props(id="i", task="t", parent_id="p", **wrong), BODY)
    assert found is not None
    assert (found.id, found.task, found.reply_to, found.correlation_id) == ("i", "t", "r", "c")
    assert (found.retries, found.timelimit, found.eta, found.root_id) == (0, None, None, "i")


def test_headers_that_are_right_are_kept_whole() -> None:
    found = salvage(props(id="i", task="t", group="g", parent_id="p"), b"5")
    assert found is not None and (found.group, found.parent_id) == ("g", "p")


@pytest.mark.parametrize("task", [None, 5, b"\xff", ""])
def test_a_task_without_a_name_is_unknown(task: object) -> None:
    found = salvage(props(id="i", task=task), BODY)
    assert found is not None and found.task == "unknown"


@pytest.mark.parametrize("headers", [None, [], {}, {"task": "t"}, {"id": ""}, {"id": b"\xff"}])
def test_without_an_id_nobody_can_be_answered(headers: Any) -> None:
    assert salvage(Properties(headers=headers), BODY) is None


def test_what_no_encoding_can_carry_is_left_out() -> None:
    broken = Properties(headers={"id": "i", "task": "t"}, reply_to="\udcff", correlation_id="\udcff")
    found = salvage(broken, BODY)
    assert found is not None and found.reply_to is found.correlation_id is None


def test_a_label_fits_one_line_whatever_the_wire_holds() -> None:
    label = parse(props(id="i" * 5000, task="t\n[x]\x1b"), [[], {}, {}]).label
    assert label.isprintable() and len(label) < 500
    assert parse(props(id="i", task="t"), [[], {}, {}]).label == "t[i]"
