"""The consumers and messages of consumer steps, with the names of kombu's.

Programs make consumers (``turbo.bootsteps``) of a channel of ``amqp.client.step_connection``; all of it runs on the
thread of ``master.consumer_steps``. A message is settled by the program alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

from turbo.app.publish.queues import queue_from
from turbo.exceptions import MessageStateError
from turbo.protocol import compression, content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turbo.amqp.topology import Queue

    #: Called with a message's body, its properties by name, and its delivery info.
    OnDelivery = Callable[[bytes, Mapping[str, Any], dict[str, Any]], object]

#: The largest body after decompression, in bytes.
_LARGEST: Final = 128 * 1024 * 1024


class Channel(Protocol):
    """The part of a channel that consumers and messages use."""

    accept: frozenset[str]

    def declare(self, queue: Queue) -> None:
        """Declare a queue with its exchanges and bindings."""

    def qos(self, prefetch_count: int) -> None:
        """Limit the unsettled messages of each consumer that begins from now on."""

    def consume(self, queue: Queue, tag: str, on_delivery: OnDelivery, no_ack: bool) -> None:
        """Begin to consume from a queue."""

    def cancel(self, tag: str) -> None:
        """End a consumer."""

    def ack(self, delivery_tag: int, multiple: bool) -> None:
        """Acknowledge a message."""

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Reject a message."""

    def close(self) -> None:
        """Close the channel."""


class Message:
    """A delivered message. Raises MessageStateError when it is settled twice."""

    def __init__(
        self, channel: Channel, body: bytes, properties: Mapping[str, Any], delivery_info: dict[str, Any], no_ack: bool
    ) -> None:
        self.channel = channel
        self.body = body
        self.headers: dict[str, Any] = dict(properties.get("headers") or {})
        self.properties = {name: value for name, value in properties.items() if value is not None}
        self.delivery_info = delivery_info
        self.delivery_tag: int = delivery_info["delivery_tag"]
        self.content_type: str | None = properties.get("content_type")
        self.content_encoding: str | None = properties.get("content_encoding")
        self.accept = channel.accept
        self._state = "ACK" if no_ack else "RECEIVED"
        self._decoded: list[Any] = []

    @property
    def acknowledged(self) -> bool:
        """Whether it has been settled."""
        return self._state != "RECEIVED"

    @property
    def payload(self) -> Any:
        """The decoded body. Raises SerializationError."""
        if not self._decoded:
            self._decoded.append(self.decode())
        return self._decoded[0]

    def decode(self) -> Any:
        """Decode the body.

        Raises ContentDisallowed for a content type that is not accepted, DecodeError.
        """
        packing = self.headers.get("compression")
        body = self.body if packing is None else compression.decompress(self.body, str(packing), _LARGEST)
        return content.decode(body, self.content_type, self.content_encoding, self.accept)

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge the message; ``multiple``: and all before it on its channel."""
        self._settle("ACK")
        self.channel.ack(self.delivery_tag, multiple)

    def reject(self, requeue: bool = False) -> None:
        """Reject the message: it is dead-lettered or deleted, or goes back to its queue."""
        self._settle("REQUEUED" if requeue else "REJECTED")
        self.channel.reject(self.delivery_tag, requeue)

    def requeue(self) -> None:
        """Give the message back to its queue."""
        self.reject(requeue=True)

    def _settle(self, state: str) -> None:
        if self.acknowledged:
            raise MessageStateError(f"the message {self.delivery_tag} is settled already, by {self._state}")
        self._state = state

    def __repr__(self) -> str:
        return f"<Message: {self.content_type} of {len(self.body)} bytes, {self.delivery_info!r}>"


class Consumer:
    """A consumer of ``queues`` on the channel that ``get_consumers`` got.

    ``queues`` are :class:`turbo.Queue` objects (kombu's are read too), or one of them; they are declared, unless
    ``auto_declare`` is off. Each of ``callbacks`` is called as ``callback(body, message)``, or ``on_message`` instead,
    as ``on_message(message)``. ``accept`` names serializers or content types (default: the setting
    ``accept_content``).
    """

    def __init__(
        self,
        channel: Any,
        queues: Any = None,
        no_ack: bool = False,
        auto_declare: bool = True,
        callbacks: Iterable[Callable[[Any, Message], object]] | None = None,
        on_decode_error: Callable[[Message, Exception], object] | None = None,
        on_message: Callable[[Message], object] | None = None,
        accept: Iterable[str] | None = None,
        prefetch_count: int | None = None,
        tag_prefix: str | None = None,
    ) -> None:
        self.channel: Channel = channel
        self.queues = [] if queues is None else list(queues) if isinstance(queues, (list, tuple, set)) else [queues]
        self.no_ack = no_ack
        self.auto_declare = auto_declare
        self.callbacks = list(callbacks or ())
        self.on_decode_error = on_decode_error
        self.on_message = on_message
        self.accept = None if accept is None else content.accept_set(accept)
        self.prefetch_count = prefetch_count
        self._tag_prefix = tag_prefix or ""
        self._tags: list[str] = []

    def consume(self, no_ack: bool | None = None) -> None:
        """Begin to consume from the queues; does nothing when it does already."""
        if self._tags:
            return
        if no_ack is not None:
            self.no_ack = no_ack
        if self.prefetch_count is not None:
            self.channel.qos(self.prefetch_count)
        for queue in map(queue_from, self.queues):
            if self.auto_declare and not queue.no_declare:
                self.channel.declare(queue)
            tag = f"{self._tag_prefix}{uuid4()}"
            self.channel.consume(queue, tag, self._on_delivery, self.no_ack)
            self._tags.append(tag)

    def cancel(self) -> None:
        """Consume no more."""
        tags, self._tags = self._tags, []
        for tag in tags:
            self.channel.cancel(tag)

    close = cancel

    def register_callback(self, callback: Callable[[Any, Message], object]) -> None:
        """Add a callback."""
        self.callbacks.append(callback)

    def add_queue(self, queue: Any) -> Any:
        """Add a queue, for the next :meth:`consume`."""
        self.queues.append(queue)
        return queue

    def qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Limit the unsettled messages to ``prefetch_count``.

        For consumers that begin from now on.
        """
        self.channel.qos(prefetch_count)

    def __enter__(self) -> Consumer:
        self.consume()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _on_delivery(self, body: bytes, properties: Mapping[str, Any], delivery_info: dict[str, Any]) -> None:
        message = Message(self.channel, body, properties, delivery_info, no_ack=self.no_ack)
        if self.accept is not None:
            message.accept = self.accept
        if self.on_message is not None:
            self.on_message(message)
            return
        if not self.callbacks:
            raise NotImplementedError("Consumer does not have any callbacks")
        try:
            payload = message.payload
        except Exception as error:
            if self.on_decode_error is None:
                raise
            self.on_decode_error(message, error)
            return
        for callback in self.callbacks:
            callback(payload, message)
