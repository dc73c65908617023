"""A channel of the embedded broker: consumers, unacked messages, publishes.

A connection owns it and feeds it frames. It calls the virtual host and its queues, and writes frames through `Wire`.
The AMQP methods are in `methods.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from pika import amqp_object, spec

from turbo.embedded_broker.dead_letters import REJECTED, with_delivery_count
from turbo.embedded_broker.faults import AmqpFault, access_refused, precondition_failed
from turbo.embedded_broker.message import Entry, make_message
from turbo.embedded_broker.wire import (
    content_method,
    deliver_arguments,
    encode_ack,
    encode_content,
    encode_method,
    short_string,
)
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.embedded_broker.queues import Queue
    from turbo.embedded_broker.vhost import VirtualHost


logger = logging.getLogger(__name__)


class Wire(Protocol):
    """The connection as its channels see it."""

    frame_max: int
    cancel_notify: bool

    def write(self, data: bytes) -> None:
        """Send at the end of this loop iteration."""

    def has_room(self) -> bool:
        """Whether more may be written; False while too much is unsent."""


class Consumer:
    """A consumer, the `queues.Receiver` of its queue."""

    __slots__ = (
        "channel",
        "encoded_tag",
        "exclusive",
        "held",
        "no_ack",
        "prefetch",
        "priority",
        "queue",
        "tag",
    )

    def __init__(
        self,
        channel: Channel,
        tag: str,
        queue: Queue,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        priority: int,
    ) -> None:
        self.channel = channel
        self.tag = tag
        self.encoded_tag = short_string(tag)
        self.queue = queue
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.priority = priority
        self.held = 0

    def can_take(self) -> bool:
        """Whether the windows of consumer and channel and the connection have room."""
        if self.channel.closing or not self.channel.wire.has_room():
            return False
        return self.no_ack or (
            (not self.prefetch or self.held < self.prefetch)
            and (not self.channel.prefetch_all or self.channel.held < self.channel.prefetch_all)
        )

    def deliver(self, entry: Entry) -> None:
        """Send basic.deliver with its content."""
        channel = self.channel
        tag = channel.take_tag(entry, self.queue, self)
        method = deliver_arguments(self.encoded_tag, tag, entry.redelivered, entry.message.routing)
        channel.write_content(method, entry, self.queue)

    def cancelled(self) -> None:
        """Handle the queue's deletion: send basic.cancel if the client accepts it."""
        del self.channel.consumers[self.tag]
        if self.channel.wire.cancel_notify:
            self.channel.send(spec.Basic.Cancel(self.tag, nowait=True))


@dataclass(slots=True)
class Unacked:
    """A delivered message that is neither acknowledged nor requeued."""

    entry: Entry
    queue: Queue
    consumer: Consumer | None


@dataclass(slots=True)
class _Publish:
    """A publish whose content is not complete."""

    exchange: str
    routing_key: str
    mandatory: bool
    header: bytes | None = None
    missing: int = 0
    pieces: list[bytes] | None = None


class Channel:
    """One open channel."""

    def __init__(self, number: int, wire: Wire, vhost: VirtualHost) -> None:
        self.number = number
        self.wire = wire
        self.vhost = vhost
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Unacked] = {}  # by delivery tag, ascending
        self.held = 0  # number of unacked messages that consumers hold
        self.prefetch_each = 0
        self.prefetch_all = 0
        self.last_queue = ""
        self.confirms = False
        self.closing = False  # no deliveries any more; only the client's close-ok is handled
        self._next_tag = 1
        self._publish: _Publish | None = None
        self._published = 0
        self._confirmed = 0

    # -- to the client --------------------------------------------------------------------------------

    def send(self, method: amqp_object.Method) -> None:
        """Send a method."""
        self.wire.write(encode_method(self.number, method))

    def write_content(self, method: bytes, entry: Entry, queue: Queue) -> None:
        """Send a method with a message."""
        header = entry.message.header
        if queue.options.quorum and entry.deliveries:
            try:
                header = with_delivery_count(entry.message, entry.deliveries)
            except TableError as error:
                logger.warning(
                    "cannot add x-delivery-count to a redelivery from %r: %s",
                    queue.name,
                    error,
                )
        self.wire.write(encode_content(self.number, method, header, entry.message.body, self.wire.frame_max))

    def take_tag(self, entry: Entry, queue: Queue, consumer: Consumer | None, *, no_ack: bool = False) -> int:
        """Return the next delivery tag.

        Record the message as unacknowledged, unless with no_ack.
        """
        tag = self._next_tag
        self._next_tag += 1
        if no_ack or (consumer is not None and consumer.no_ack):
            queue.unacked -= 1
            return tag
        self.unacked[tag] = Unacked(entry, queue, consumer)
        if consumer is not None:
            consumer.held += 1
            self.held += 1
        return tag

    # -- settling -------------------------------------------------------------------------------------

    def settle(self, tag: int, multiple: bool) -> list[Unacked]:
        """Remove and return the deliveries up to `tag`, or only that one.

        Raise 406 if it is unknown.
        """
        if multiple and tag == 0:
            tags = list(self.unacked)
        elif tag not in self.unacked:
            raise precondition_failed(f"unknown delivery tag {tag}")
        elif multiple:
            tags = list(takewhile(tag.__ge__, self.unacked))
        else:
            tags = [tag]
        settled = [self.unacked.pop(each) for each in tags]
        for each in settled:
            each.queue.unacked -= 1
            if each.consumer is not None:
                each.consumer.held -= 1
                self.held -= 1
        return settled

    def ack(self, tag: int, multiple: bool) -> None:
        """basic.ack: drop the messages."""
        self._make_room(self.settle(tag, multiple))

    def reject(self, tag: int, multiple: bool, requeue: bool) -> None:
        """basic.nack and basic.reject: requeue or dead-letter the messages."""
        settled = self.settle(tag, multiple)
        if requeue:
            requeue_all(settled)
        else:
            for each in settled:
                self.vhost.dead_letter(each.queue, each.entry, REJECTED)
        self._make_room(settled)

    def recover(self) -> None:
        """basic.recover: requeue all unacknowledged messages."""
        settled = self.settle(0, multiple=True)
        requeue_all(settled)
        self._make_room(settled)

    def _make_room(self, settled: Iterable[Unacked]) -> None:
        queues = {id(each.queue): each.queue for each in settled}
        if self.prefetch_all:  # the channel's window may have stopped consumers of other queues
            queues |= {id(consumer.queue): consumer.queue for consumer in self.consumers.values()}
        for queue in queues.values():
            queue.dispatch()

    # -- consumers ------------------------------------------------------------------------------------

    def consume(self, queue: Queue, tag: str, *, no_ack: bool, exclusive: bool, priority: int) -> Consumer:
        """Register a consumer; the caller confirms it and then calls `queue.add_consumer`."""
        if tag in self.consumers:
            raise AmqpFault(530, f"attempt to reuse consumer tag '{tag}'")
        if (exclusive and queue.consumers) or any(other.exclusive for other in queue.consumers):
            raise access_refused(f"queue '{queue.name}' in vhost '{self.vhost.name}' in exclusive use")
        consumer = self.consumers[tag] = Consumer(
            self,
            tag,
            queue,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=self.prefetch_each,
            priority=priority,
        )
        return consumer

    def cancel(self, tag: str) -> None:
        """basic.cancel; the consumer's messages stay unacknowledged."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
            self.vhost.consumer_gone(consumer.queue)

    def close(self) -> None:
        """Close the channel: cancel its consumers, then requeue their messages."""
        self.closing = True
        for tag in list(self.consumers):
            self.cancel(tag)
        requeue_all(self.settle(0, multiple=True))
        self._publish = None

    # -- publishing -----------------------------------------------------------------------------------

    def begin_publish(self, exchange: str, routing_key: str, mandatory: bool) -> None:
        """Handle basic.publish; its content follows."""
        if self._publish is not None:
            raise AmqpFault(505, "a publish came before the content of the last one was complete")
        self._publish = _Publish(exchange, routing_key, mandatory)

    @property
    def expects_content(self) -> bool:
        """Whether the content of a publish is not complete."""
        return self._publish is not None

    def take_header(self, payload: bytes) -> None:
        """Handle a content header frame."""
        publish = self._publish
        if publish is None or publish.header is not None or len(payload) < 14:
            raise AmqpFault(505, "unexpected content header")
        publish.header, publish.pieces = payload, []
        publish.missing = int.from_bytes(payload[4:12], "big")
        if not publish.missing:
            self._finish_publish(publish)

    def take_body(self, payload: bytes) -> None:
        """Handle a content body frame."""
        publish = self._publish
        if publish is None or publish.pieces is None:
            raise AmqpFault(505, "unexpected content body")
        publish.pieces.append(payload)
        publish.missing -= len(payload)
        if publish.missing < 0:
            raise AmqpFault(505, "the content body is longer than announced")
        if not publish.missing:
            self._finish_publish(publish)

    def _finish_publish(self, publish: _Publish) -> None:
        self._publish = None
        assert publish.header is not None and publish.pieces is not None
        exchange = self.vhost.exchange(publish.exchange)
        if exchange.internal:
            raise access_refused(f"cannot publish to internal exchange '{exchange.name}' in vhost '{self.vhost.name}'")
        body = publish.pieces[0] if len(publish.pieces) == 1 else b"".join(publish.pieces)
        message = make_message(publish.exchange, publish.routing_key, publish.header, body)
        routed, accepted = self.vhost.publish(exchange, message)
        if publish.mandatory and not routed:
            returned = content_method(
                spec.Basic.Return.INDEX,
                (b"\x01\x38", short_string("NO_ROUTE"), message.routing),  # 312
            )
            self.wire.write(encode_content(self.number, returned, message.header, body, self.wire.frame_max))
        if self.confirms:
            self._published += 1
            if not accepted:
                self.flush_confirms(before=self._published)
                self.wire.write(encode_ack(self.number, self._published, multiple=False, negative=True))
                self._confirmed = self._published

    def flush_confirms(self, before: int | None = None) -> None:
        """Confirm all publishes since the last call with one frame."""
        last = self._published if before is None else before - 1
        if last > self._confirmed:
            self.wire.write(encode_ack(self.number, last, multiple=last > self._confirmed + 1))
            self._confirmed = last


def requeue_all(settled: Iterable[Unacked]) -> None:
    """Requeue deliveries with one call per queue."""
    by_queue: dict[int, tuple[Queue, list[Entry]]] = {}
    for each in settled:
        by_queue.setdefault(id(each.queue), (each.queue, []))[1].append(each.entry)
    for queue, entries in by_queue.values():
        queue.requeue(entries)
