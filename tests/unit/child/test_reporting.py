"""What leaves a child while its task runs, and what waits for the task's end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.app.tasks.context import Context
from turbo.child.reporting import Reporter
from turbo.protocol import content
from turbo.protocol.properties import Properties, encode_header
from turbo.result import AsyncResult
from turbo.ring import frames

OWN = "5f6e1f2e-0000-4000-8000-000000000001"
OTHER = "5f6e1f2e-0000-4000-8000-000000000002"


class Link:
    """Remembers what was written, and how much of it was signalled."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int]] = []
        #: Of the record written last.
        self.parts: Any = None
        self.signalled = 0

    def emit(self, kind: int, seq: int, parts: Any) -> None:
        self.written.append((kind, seq))
        self.parts = parts

    def signal(self) -> None:
        self.signalled = len(self.written)


class Soft:
    """No limit: masking does nothing."""

    def mask(self) -> None:
        """As the real one."""

    unmask = mask


def reporter(link: Link, serializer: str = "json") -> Reporter:
    def declaring() -> Any:
        raise AssertionError("every queue is known")

    return Reporter(
        link,  # type: ignore[arg-type]
        Soft(),  # type: ignore[arg-type]
        known_queues=frozenset(),
        declaring=declaring,
        result_serializer=serializer,
        stores=True,
    )


def test_a_name_that_amqp_cannot_carry_is_the_task_s_own_error() -> None:
    """In the master the error could not be assigned to the task, or would cost the child."""
    link = Link()
    told = reporter(link)
    told.begin(1, OWN)
    for name in (OWN, OTHER):
        with pytest.raises(ValueError, match="255 bytes"):
            told.publish("", "ü" * 128, header(name), b"")
        with pytest.raises(ValueError, match="255 bytes"):
            told.publish("x" * 256, "", header(name), b"")
    told.release()
    assert link.written == []


def header(correlation_id: str | None, **more: Any) -> bytes:
    table = {"id": correlation_id, "root_id": OWN, "parent_id": OWN, "task": "t"}
    given = {"delivery_mode": 2, "priority": 0, "content_type": "application/json", "headers": table} | more
    return encode_header(Properties(correlation_id=correlation_id, **given), 10)


def test_other_messages_leave_at_once() -> None:
    link = Link()
    it = reporter(link)
    it.begin(7, OWN)
    it.publish("", "q", header(OTHER), b"body")
    assert (link.written, link.signalled) == ([(frames.PUBLISH, 7)], 1)


@pytest.mark.parametrize("more", [{}, {"priority": None}, {"delivery_mode": None, "priority": None}, {"reply_to": "r"}])
def test_the_next_attempt_waits_for_the_end_of_this_one(more: dict[str, Any]) -> None:
    link = Link()
    it = reporter(link)
    it.begin(7, OWN)
    it.publish("", "q", header(OWN, **more), b"body")
    assert link.written == []
    it.release()
    assert link.written == [(frames.PUBLISH, 7)]
    it.release()
    assert len(link.written) == 1


@pytest.mark.parametrize(("serializer", "stored"), [("json", [["call", None], None]), ("pickle", AsyncResult("call"))])
def test_a_state_may_hold_the_handle_of_a_call(serializer: str, stored: object) -> None:
    link = Link()
    it = reporter(link, serializer)
    it.begin(7, OWN)
    it.store_state(OWN, "HALF", AsyncResult("call"), Context(id=OWN))
    request = frames.unpack_store(b"".join(link.parts))
    accepted = frozenset({request.content_type})
    document = content.decode(request.payload, request.content_type, request.content_encoding, accepted)
    assert document["result"] == stored


def test_between_tasks_nothing_waits() -> None:
    link = Link()
    it = reporter(link)
    it.begin(7, OWN)
    it.begin(0)
    it.publish("", "q", header(OWN), b"body")
    assert link.written == [(frames.PUBLISH, 0)]


@given(own=st.text(min_size=1, max_size=80), other=st.text(max_size=80))
def test_an_attempt_is_known_by_its_correlation_id_alone(own: str, other: str) -> None:
    own, other = (text.encode("utf-8", "ignore").decode()[:50] for text in (own, other))
    if not own:
        own = "x"
    link = Link()
    it = reporter(link)
    it.begin(1, own)
    it.publish("", "q", header(own), b"")
    assert len(it.share.held) == 1
    it.publish("", "q", header(other, reply_to=None, priority=0, delivery_mode=2), b"")
    assert len(it.share.held) == 1 + (own == other)


def test_a_next_attempt_to_a_new_queue_waits_too_and_only_the_queue_is_declared() -> None:
    link, declared = Link(), []
    it = reporter(link)
    it._declaring = lambda: SimpleNamespace(declare=declared.extend)  # type: ignore[assignment,return-value]
    queue = SimpleNamespace(name="elsewhere")
    it.begin(7, OWN)
    it.publish("", "elsewhere", header(OWN), b"body", declare=[queue])
    it.publish("", "elsewhere", header(OWN), b"body", declare=[queue])
    assert (link.written, declared, len(it.share.held)) == ([], [queue], 2)
    assert all(request.after_states for request in it.share.held)
