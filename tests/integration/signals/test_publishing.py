"""The two signals of publishing, from a client and from within a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.signals.scene import Scene
from turbo import signals


@pytest.fixture
def seen() -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """What both signals were sent with; one header and one argument are added on the way."""
    found: list[tuple[Any, dict[str, Any]]] = []

    def before(sender: str, headers: Any, body: Any, properties: Any, **named: Any) -> None:
        named.pop("signal")
        found.append((sender, {"headers": headers, "body": body, "properties": dict(properties), **named}))
        headers["added"] = "on the way"
        body[1]["late"] = True
        properties["priority"] = 3

    def after(sender: str, **named: Any) -> None:
        named.pop("signal")
        found.append((sender, named))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield found
    assert signals.before_task_publish.disconnect(before)
    assert signals.after_task_publish.disconnect(after)


@pytest.mark.row("SG1", "SG2")
def test_receivers_see_and_change_what_is_sent(quiet: Scene, seen: list[tuple[Any, dict[str, Any]]]) -> None:
    sent = quiet.send("act", "return")
    lines = quiet.wait(sent, "after_return")
    assert lines[0].details["kwargs"] == {"late": True}
    assert lines[1].details["header"] == "on the way"
    (first, before), (second, after) = seen
    assert first == second == "act"
    assert before["headers"]["id"] == sent
    assert before["body"][0] == ("return",)
    assert (before["exchange"], before["routing_key"]) == ("", "signalled")
    assert before["properties"]["correlation_id"] == sent
    assert before["retry_policy"]["max_retries"] == 3
    assert before["declare"]
    assert set(after) == {"headers", "body", "exchange", "routing_key"}
    assert after["headers"]["added"] == "on the way"
