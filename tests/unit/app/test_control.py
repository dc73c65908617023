from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.unit.app.recording import make_app
from turbo.amqp.client.mailbox import Mailbox, Packet
from turbo.exceptions import ContentDisallowed
from turbo.protocol import content


class Node:
    """A worker that writes its replies by one serializer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, serializer: str) -> None:
        self.requests: list[Packet] = []
        self.closed = False
        self._serializer = serializer

        def ask(
            _mailbox: Mailbox, request: Packet, key: str | None, _timeout: float, _limit: Any
        ) -> Generator[Packet, None, None]:
            self.requests.append(request)
            try:
                if key is not None:
                    yield self._reply(request)
            finally:
                self.closed = True

        monkeypatch.setattr(Mailbox, "ask", ask)

    @staticmethod
    def decoded(request: Packet) -> Any:
        return content.decode(
            request.body, request.content_type, request.content_encoding, frozenset({request.content_type})
        )

    def _reply(self, request: Packet) -> Packet:
        body, content_type, encoding = content.encode({"one@here": {"ok": "pong"}}, self._serializer)
        return Packet(body, content_type, encoding, {"ticket": self.decoded(request)["ticket"]})


@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_requests_and_replies_are_of_the_apps_serializer(monkeypatch: pytest.MonkeyPatch, serializer: str) -> None:
    node = Node(monkeypatch, serializer)
    app = make_app(task_serializer=serializer, accept_content=[serializer])
    assert app.control.ping() == [{"one@here": {"ok": "pong"}}]
    assert {node.requests[0].content_type} == content.accept_set([serializer])
    assert node.decoded(node.requests[0])["method"] == "ping"


def test_a_reply_that_is_not_accepted_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, "pickle")
    with pytest.raises(ContentDisallowed) as raised:
        make_app().control.ping()
    assert node.closed, f"the connection stays open as long as {raised} is kept"
