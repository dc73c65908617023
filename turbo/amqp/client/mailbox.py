"""Sends remote-control requests from clients and collects the replies.

Used by ``app.control``, in clients and in children whose task uses remote control. Each request has a connection of its
own, closed after the last reply: requests are rare. It must never decode a reply, which anybody may have sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.amqp.connect_errors import explain
from turbo.amqp.url import parameters
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from pika.adapters.blocking_connection import BlockingChannel

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress

#: Seconds for connecting to one broker, including TLS and login.
_PATIENCE: Final = 15.0
_TRANSIENT: Final = 1


@dataclass(frozen=True, slots=True)
class Packet:
    """One request or reply, undecoded."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where requests go: the brokers, and the exchanges that both sides share."""

    addresses: Sequence[BrokerAddress]
    tls: TlsOptions | None
    #: ``control_exchange``.
    namespace: str

    @property
    def requests(self) -> str:
        """The exchange that routes a request to every worker."""
        return f"{self.namespace}.pidbox"

    @property
    def replies(self) -> str:
        """The exchange that routes a reply to the client that asked."""
        return f"reply.{self.namespace}.pidbox"

    def ask(
        self, request: Packet, reply_key: str | None, timeout: float, limit: int | None
    ) -> Generator[Packet, None, None]:
        """Send a request.

        Yield the replies to ``reply_key`` within ``timeout`` seconds, ``limit`` at most. Without a key it waits for
        nothing. Raises OperationalError.
        """
        import pika  # pika costs a program that only sends tasks 60 ms of start-up
        from pika.exceptions import AMQPError

        candidates = [
            parameters(address, tls=self.tls, name="turbo control", stack_timeout=_PATIENCE)
            for address in self.addresses
        ]
        try:
            connection = pika.BlockingConnection(candidates)
            try:
                channel = connection.channel()
                channel.confirm_delivery()
                queue = self._reply_queue(channel, reply_key)
                channel.exchange_declare(self.requests, "fanout")
                properties = pika.BasicProperties(
                    request.content_type, request.content_encoding, dict(request.headers), _TRANSIENT, 0
                )
                channel.basic_publish(self.requests, "", request.body, properties)
                if queue is not None:
                    yield from _collect(channel, queue, timeout, limit)
            finally:
                if connection.is_open:
                    connection.close()
        except (AMQPError, OSError) as error:
            raise OperationalError(f"remote control: {explain(error)}") from error

    def _reply_queue(self, channel: BlockingChannel, key: str | None) -> str | None:
        if key is None:
            return None
        queue = f"{key}.{self.replies}"
        channel.exchange_declare(self.replies, "direct")
        channel.queue_declare(queue, exclusive=True, auto_delete=True)
        channel.queue_bind(queue, self.replies, key)
        return queue


def _collect(channel: BlockingChannel, queue: str, timeout: float, limit: int | None) -> Iterator[Packet]:
    deadline = time.monotonic() + timeout
    found = 0
    while limit is None or found < limit:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=left):
            if method is None:
                return
            found += 1
            yield Packet(
                body,
                properties.content_type or "",
                properties.content_encoding or "",
                properties.headers or {},
            )
            break
