"""A publisher that keeps what it is given, decoded, and opens nothing."""

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
    """The arguments of a basic.deliver."""
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
    """Everything this process publishes lands in the recorder."""
    recorder = Recorder()
    current.set_publisher(recorder)
    try:
        yield recorder
    finally:
        current.set_publisher(None)


def make_app(**settings: Any) -> Turbo:
    """An app that leaves the current one alone."""
    return Turbo("proj", set_as_current=False, **settings)
