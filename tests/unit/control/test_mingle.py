"""The exchange with other workers at a start: who is waited for, how long, and what is adopted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from turbo.amqp.topology import Binding, Exchange, Queue
from turbo.control.mingle import Mingle
from turbo.control.options import ControlOptions
from turbo.policy.revoked import Revoked
from turbo.protocol.clock import LogicalClock

EXCHANGE = Exchange("celery.pidbox", "fanout", durable=False)
OPTIONS = ControlOptions(
    Queue("one@here.celery.pidbox", EXCHANGE), frozenset(), "json", Exchange("celeryev", "topic"), "json", "",
    Binding(Exchange("reply.celery.pidbox", "direct", durable=False), "key"),
)  # fmt: skip


class Mailbox:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.can_send = True
        self.sent: list[dict[str, Any]] = []

    def send(self, exchange: Exchange, _key: str, _header: bytes, body: bytes) -> None:
        assert exchange == EXCHANGE
        self.sent.append(json.loads(body))


class Revoking:
    """Adds the ids at once."""

    def __init__(self) -> None:
        self.revoked = Revoked()

    def revoke(self, ids: Iterable[str]) -> None:
        self.revoked.add(list(ids), 0.0)


class Dispatcher:
    """Knows why it pauses."""

    def __init__(self) -> None:
        self.pauses: set[str] = set()

    def pause(self, reason: str) -> None:
        self.pauses.add(reason)

    def resume(self, reason: str) -> None:
        self.pauses.discard(reason)


class Scene:
    """An exchange and what is around it."""

    def __init__(self, options: ControlOptions = OPTIONS) -> None:
        self.mailbox, self.revoking, self.dispatcher, self.clock = Mailbox(), Revoking(), Dispatcher(), LogicalClock()
        parts: tuple[Any, ...] = (self.mailbox, options, self.clock, self.revoking, self.dispatcher)
        self.mingle = Mingle(asyncio.get_running_loop(), *parts, hostname="one@here")

    @property
    def ids(self) -> list[str]:
        """The revoked ids."""
        return self.revoking.revoked.ids()


def test_nobody_is_waited_for_when_there_is_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        scene = Scene()
        assert scene.dispatcher.pauses
        scene.mingle.reading(False)
        await scene.mingle.wait()
        assert not scene.dispatcher.pauses
        assert scene.mailbox.sent == []
        assert caplog.messages == ["mingle: searching for neighbors", "mingle: all alone"]

    asyncio.run(scenario())


def test_answers_are_adopted_before_tasks_begin(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        scene = Scene()
        scene.revoking.revoked.add(["own"], 0.0)
        scene.mingle.reading(True)
        (asked,) = scene.mailbox.sent
        assert (asked["method"], asked["arguments"]) == ("hello", {"from_node": "one@here", "revoked": ["own"]})
        assert asked["reply_to"] == {"exchange": "reply.celery.pidbox", "routing_key": "key"}
        assert (
            scene.mingle.expects(asked["ticket"]) and not scene.mingle.expects(None) and not scene.mingle.expects("x")
        )
        waiting = asyncio.ensure_future(scene.mingle.wait())
        scene.mingle.take("one@here", None)
        scene.mingle.take("two@here", {"revoked": ["a", "own"], "clock": 40})
        scene.mingle.take("two@here", {"revoked": ["again"], "clock": 90})
        scene.mingle.take("bad@here", {"revoked": 3})
        await asyncio.sleep(0)
        assert scene.dispatcher.pauses and not waiting.done()
        await waiting
        assert not scene.dispatcher.pauses
        assert (scene.ids, scene.clock.value) == (["own", "a"], 41)
        assert "mingle: sync with 2 nodes" in caplog.messages and caplog.messages[-1] == "mingle: sync complete"
        assert any("sync with bad@here failed" in line for line in caplog.messages)
        # A late answer counts as well.
        scene.mingle.take("late@here", {"revoked": ["late"]})
        assert scene.ids[-1] == "late"

    asyncio.run(scenario())


def test_the_request_waits_until_messages_can_be_sent() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.mailbox.can_send = False
        scene.mingle.reading(True)
        assert scene.mailbox.sent == []
        scene.mailbox.can_send = True
        scene.mingle.sending()
        scene.mingle.sending()
        (first,) = scene.mailbox.sent
        # After a reconnect it asks again, and answers to the first request count no more.
        scene.mingle.reading(True)
        assert len(scene.mailbox.sent) == 2
        assert not scene.mingle.expects(first["ticket"])

    asyncio.run(scenario())


def test_without_answers_of_others_tasks_begin_nevertheless() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.mingle.release()
        assert not scene.dispatcher.pauses

    asyncio.run(scenario())


def test_a_worker_that_does_not_mingle_holds_nothing() -> None:
    async def scenario() -> None:
        scene = Scene(ControlOptions(OPTIONS.mailbox, frozenset(), "json", Exchange("celeryev", "topic"), "json", ""))
        assert not scene.dispatcher.pauses
        scene.mingle.reading(True)
        scene.mingle.sending()
        await scene.mingle.wait()
        assert scene.mailbox.sent == []

    asyncio.run(scenario())
