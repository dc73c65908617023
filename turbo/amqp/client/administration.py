"""Single operations on a broker, for ``turbo amqp`` and ``turbo purge``.

Runs in the command's process. One connection and one channel, opened again after the broker has refused something. It
must never be used by a worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from turbo.amqp.client.connection import Refused
from turbo.amqp.client.methods import Fault
from turbo.amqp.connect_errors import explain
from turbo.amqp.url import parameters
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress

#: Seconds for connecting to one broker, including TLS and login.
_PATIENCE: Final = 15.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker says of a declared queue."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Got:
    """One message taken from a queue.

    ``delivery_info`` and ``properties`` hold what the broker sent.
    """

    body: bytes
    delivery_tag: int
    delivery_info: dict[str, Any]
    properties: dict[str, Any]


class Administration:
    """A connection to the broker as a context manager.

    Entering raises OperationalError. Every method raises Refused (with the broker's code) for what the broker refuses,
    and OperationalError when the connection is lost.
    """

    def __init__(self, addresses: Sequence[BrokerAddress], tls: TlsOptions | None) -> None:
        self._addresses = addresses
        self._tls = tls
        self._connection: BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    @property
    def label(self) -> str:
        """The brokers' addresses, without passwords."""
        return ", ".join(address.label for address in self._addresses)

    def __enter__(self) -> Self:
        import pika  # pika costs a program that only sends tasks 60 ms of start-up
        from pika.exceptions import AMQPError

        candidates = [
            parameters(address, tls=self._tls, name="turbo amqp", stack_timeout=_PATIENCE)
            for address in self._addresses
        ]
        try:
            self._connection = pika.BlockingConnection(candidates)
        except (AMQPError, OSError) as error:
            raise OperationalError(f"cannot connect to {self.label}: {explain(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _run(self, work: Callable[[BlockingChannel], _T]) -> _T:
        from pika.exceptions import AMQPError, ChannelClosedByBroker

        if self._connection is None:
            raise OperationalError(f"not connected to {self.label}")
        try:
            if self._channel is None or not self._channel.is_open:
                self._channel = self._connection.channel()
            return work(self._channel)
        except ChannelClosedByBroker as closed:
            raise Refused(Fault(closed.reply_code, closed.reply_text)) from closed
        except (AMQPError, OSError) as error:
            raise OperationalError(f"{self.label}: {explain(error)}") from error

    def declare_exchange(self, name: str, type: str, *, passive: bool, durable: bool, auto_delete: bool) -> None:
        """Declare an exchange; with ``passive``, only check that it exists."""
        self._run(lambda channel: channel.exchange_declare(name, type, passive, durable, auto_delete))

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange."""
        self._run(lambda channel: channel.exchange_delete(name, if_unused))

    def declare_queue(self, name: str, *, passive: bool, durable: bool, auto_delete: bool) -> QueueState:
        """Declare a queue and return its state.

        With ``passive``, only check that it exists.
        """
        declared = self._run(lambda channel: channel.queue_declare(name, passive, durable, False, auto_delete)).method
        return QueueState(declared.queue, declared.message_count, declared.consumer_count)

    def bind_queue(self, name: str, exchange: str, routing_key: str) -> None:
        """Bind a queue to an exchange."""
        self._run(lambda channel: channel.queue_bind(name, exchange, routing_key))

    def delete_queue(self, name: str, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue; return the number of messages that were in it."""
        count: int = self._run(lambda channel: channel.queue_delete(name, if_unused, if_empty)).method.message_count
        return count

    def purge_queue(self, name: str) -> int:
        """Delete the messages that wait in a queue; return their number."""
        count: int = self._run(lambda channel: channel.queue_purge(name)).method.message_count
        return count

    def get(self, queue: str, *, no_ack: bool) -> Got | None:
        """Take one message from a queue; None if it is empty."""
        method, properties, body = self._run(lambda channel: channel.basic_get(queue, no_ack))
        if method is None:
            return None
        info = {
            name: getattr(method, name)
            for name in ("delivery_tag", "redelivered", "exchange", "routing_key", "message_count")
        }
        set_ones = {name: value for name, value in vars(properties).items() if value is not None}
        return Got(body, method.delivery_tag, info, set_ones)

    def publish(self, body: bytes, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        """Publish a message."""
        self._run(lambda channel: channel.basic_publish(exchange, routing_key, body, mandatory=mandatory))

    def ack(self, delivery_tag: int) -> None:
        """Acknowledge a message that :meth:`get` returned."""
        self._run(lambda channel: channel.basic_ack(delivery_tag))
