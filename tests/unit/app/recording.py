"""A publisher that keeps its messages, decoded, and opens no connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from turbo import current
from turbo.amqp.topology import Queue
from turbo.app.base import Turbo
from turbo.protocol.properties import Properties, decode_header


def deliver_args(exchange: str, routing_key: str, *, redelivered: bool = False) -> bytes:
    """Return the arguments of a basic.deliver."""
    words = [bytes([len(word.encode())]) + word.encode() for word in ("tag", exchange, routing_key)]
    return words[0] + (7).to_bytes(8, "big") + bytes([redelivered]) + words[1] + words[2]


@dataclass
class Published:
    exchange: str
    routing_key: str
    properties: Properties
    headers: dict[str, Any]
    body: bytes
    declare: tuple[Queue, ...]
    mandatory: bool


@dataclass
class Recorder:
    failure: Exception | None = None
    sent: list[Published] = field(default_factory=list)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        declare: Sequence[Queue] = (),
        mandatory: bool = False,
    ) -> None:
        if self.failure is not None:
            raise self.failure
        properties, size = decode_header(header)
        assert size == len(body)
        self.sent.append(
            Published(exchange, routing_key, properties, properties.headers or {}, body, tuple(declare), mandatory)
        )

    @property
    def last(self) -> Published:
        return self.sent[-1]


@contextmanager
def recording() -> Iterator[Recorder]:
    """Install the recorder as the publisher of this process during the block."""
    recorder = Recorder()
    current.set_publisher(recorder)
    try:
        yield recorder
    finally:
        current.set_publisher(None)


def make_app(**settings: Any) -> Turbo:
    """Return an app that does not become the current one."""
    return Turbo("proj", set_as_current=False, **settings)
