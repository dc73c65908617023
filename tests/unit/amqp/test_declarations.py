"""What turbo declares by itself stays allowed: RabbitMQ takes features away from version to version."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import turbo
from turbo.amqp.delayed_delivery import cascade
from turbo.amqp.topology import Queue, task_queue
from turbo.app.conf.conf import Settings
from turbo.app.publish.queues import direct_queue
from turbo.control.options import control_options
from turbo.policy.worker_options import WorkerOptions

#: The modules that speak AMQP for turbo; the embedded broker only hears it.
SPOKEN = sorted((Path(turbo.__file__).parent / "amqp").rglob("*.py"))


def calls(name: str) -> list[ast.Call]:
    """Every call of a method of this name, or that hands this method to another."""
    return [
        node
        for path in SPOKEN
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and name in {getattr(each, "attr", "") for each in (node.func, *node.args)}
    ]


def given(call: ast.Call, keyword: str) -> Any:
    """The constant that a call passes by this keyword; None when it passes none."""
    return next((getattr(each.value, "value", None) for each in call.keywords if each.arg == keyword), None)


def test_no_window_is_that_of_a_whole_channel() -> None:
    """Global QoS is deprecated, and quorum queues refuse it."""
    windows = calls("basic_qos")
    assert [given(call, "global_qos") for call in windows] == [False] * 2


def lasting_or_ours(queue: Queue) -> bool:
    """A queue that is transient and shared may be refused by RabbitMQ 4.3 and later."""
    return queue.durable or queue.exclusive


@pytest.mark.parametrize(
    "settings",
    [{}, {"control_queue_exclusive": False}, {"control_queue_durable": True}],
    ids=["default", "not exclusive", "durable"],
)
def test_no_queue_of_ours_is_transient_and_shared(settings: dict[str, Any]) -> None:
    mailbox = control_options(Settings(settings), WorkerOptions("w@h", 1)).mailbox
    assert mailbox is not None
    levels = [level for kind in ("quorum", "classic") for level in cascade(kind)[0]]
    queues = [mailbox, direct_queue("w@h"), task_queue("q"), task_queue("q", queue_type="quorum"), *levels]
    assert all(map(lasting_or_ours, queues))


def test_the_queues_for_replies_and_events_are_exclusive() -> None:
    declared = [call for call in calls("queue_declare") if given(call, "auto_delete") is True]
    assert [given(call, "exclusive") for call in declared] == [True, True]
