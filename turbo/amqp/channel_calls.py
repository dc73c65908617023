"""Sends requests on one channel and awaits the answers, each with a time limit.

Used by the session, the declarer and the publisher in the master. pika answers through callbacks and, when a channel
dies, not at all. Here every request ends: with the answer, with ``ChannelGone`` and the reason, or by dropping a
connection that no longer answers. It must never carry deliveries or publishes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pika.exceptions

from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pika.channel import Channel

    from turbo.amqp.delayed_delivery import ExchangeBinding
    from turbo.amqp.fast_connection import FastConnection
    from turbo.amqp.topology import Binding, Exchange, Queue

#: Seconds for one answer. A quorum queue may take a while to be declared on a loaded cluster.
ANSWER_TIMEOUT = 20.0


class ChannelGone(OperationalError):
    """The channel was closed.

    ``code`` is AMQP's reply code, 0 when the whole connection went; ``blames_us`` whether the broker
    objected to what was sent to it, on the channel or the connection.
    """

    def __init__(self, code: int, text: str, *, blames_us: bool = False) -> None:
        super().__init__(f"{code} {text}" if code else text)
        self.code = code
        self.text = text
        self.blames_us = blames_us


class ChannelCalls:
    """An open channel, until ``closed`` resolves."""

    def __init__(self, connection: FastConnection, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._waiting: set[asyncio.Future[Any]] = set()
        self.channel = channel
        self.closed: asyncio.Future[ChannelGone] = loop.create_future()

    @classmethod
    async def open(
        cls, connection: FastConnection, on_closed: Callable[[ChannelGone], None] | None = None
    ) -> ChannelCalls:
        """Open a channel.

        ``on_closed`` is called at once, inside the frame's processing. Raises ``ChannelGone``.
        """
        loop = asyncio.get_running_loop()
        if not connection.is_open:
            raise ChannelGone(0, "the connection is not open")
        opened: asyncio.Future[Any] = loop.create_future()
        channel = connection.channel(on_open_callback=lambda _channel: _resolve(opened, None))
        self = cls(connection, channel, loop)
        channel.add_on_close_callback(lambda _channel, reason: self._on_close(reason, on_closed))
        await self._answer(opened, "channel.open")
        return self

    @property
    def number(self) -> int:
        """The channel's number."""
        return int(self.channel.channel_number)

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return bool(self.channel.is_open)

    def _on_close(self, reason: BaseException, on_closed: Callable[[ChannelGone], None] | None) -> None:
        gone = _gone(reason)
        _resolve(self.closed, gone)
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_exception(_gone(reason))
        if on_closed is not None:
            self._connection.guarded(on_closed, gone)

    async def _answer(self, future: asyncio.Future[Any], question: str) -> Any:
        self._waiting.add(future)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await future
        except TimeoutError:
            self._connection.abandon(f"no answer to {question} within {ANSWER_TIMEOUT:g} s")
            raise ChannelGone(0, f"no answer to {question}") from None
        finally:
            self._waiting.discard(future)

    async def _ask(self, question: str, method: Callable[..., Any], **arguments: object) -> Any:
        """Call a pika method that takes ``callback`` and await its answer.

        Raises ``ChannelGone``.
        """
        answered: asyncio.Future[Any] = self._loop.create_future()
        try:
            method(callback=lambda frame: _resolve(answered, frame), **arguments)
        except (pika.exceptions.ChannelWrongStateError, pika.exceptions.ConnectionWrongStateError) as error:
            raise ChannelGone(0, str(error)) from error
        return await self._answer(answered, question)

    async def declare_exchange(self, exchange: Exchange) -> None:
        """Declare one exchange as given."""
        await self._ask(
            "exchange.declare",
            self.channel.exchange_declare,
            exchange=exchange.name,
            exchange_type=exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments),
        )

    async def declare_queue(self, queue: Queue) -> int:
        """Declare one queue as given, without its exchange.

        Return its number of consumers.
        """
        frame = await self._ask(
            "queue.declare",
            self.channel.queue_declare,
            queue=queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=dict(queue.queue_arguments),
        )
        return int(frame.method.consumer_count)

    async def inspect_queue(self, name: str) -> tuple[int, int]:
        """Return how many messages are ready and how many consumers a queue has.

        It is a passive declaration of an existing queue.
        """
        frame = await self._ask("queue.declare", self.channel.queue_declare, queue=name, passive=True)
        return int(frame.method.message_count), int(frame.method.consumer_count)

    async def bind_queue(self, name: str, binding: Binding) -> None:
        """Bind a queue."""
        await self._ask(
            "queue.bind",
            self.channel.queue_bind,
            queue=name,
            exchange=binding.exchange.name,
            routing_key=binding.routing_key,
            arguments=dict(binding.arguments),
        )

    async def bind_exchange(self, binding: ExchangeBinding) -> None:
        """Bind one exchange to another."""
        await self._ask(
            "exchange.bind",
            self.channel.exchange_bind,
            destination=binding.destination,
            source=binding.source,
            routing_key=binding.routing_key,
        )

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and what is in it."""
        await self._ask("queue.delete", self.channel.queue_delete, queue=name)

    async def purge_queue(self, name: str) -> int:
        """Delete the ready messages of a queue and return their number."""
        frame = await self._ask("queue.purge", self.channel.queue_purge, queue=name)
        return int(frame.method.message_count)

    async def limit(self, count: int) -> None:
        """Set the window of each consumer that starts after this, not the channel's."""
        await self._ask("basic.qos", self.channel.basic_qos, prefetch_count=count, global_qos=False)

    async def consume(
        self, queue: str, tag: str, arguments: Mapping[str, object], *, exclusive: bool, no_ack: bool = False
    ) -> None:
        """Start a consumer.

        Its deliveries arrive through ``FastConnection.watch_channel``.
        """
        await self._ask(
            "basic.consume",
            self.channel.basic_consume,
            queue=queue,
            on_message_callback=_slow_delivery,
            consumer_tag=tag,
            arguments=dict(arguments),
            exclusive=exclusive,
            auto_ack=no_ack,
        )

    async def cancel(self, tag: str) -> None:
        """Stop a consumer; no delivery for it arrives after this returns."""
        await self._ask("basic.cancel", self.channel.basic_cancel, consumer_tag=tag)

    async def confirm(self) -> None:
        """Switch publisher confirms on.

        They are read by ``amqp.publish.answers``, never by pika.
        """
        answered: asyncio.Future[Any] = self._loop.create_future()
        self.channel.confirm_delivery(_slow_answer, callback=lambda frame: _resolve(answered, frame))
        await self._answer(answered, "confirm.select")

    async def close(self) -> None:
        """Close the channel and wait for the answer.

        Does nothing when it is already closed.
        """
        if self.channel.is_open:
            self.channel.close()
        if not self.closed.done():
            await asyncio.wait([self.closed], timeout=ANSWER_TIMEOUT)


#: Reply codes that say nothing against the client: success, an operator, a lack of resources, a fault of
#: the broker.
_NOT_OUR_FAULT = frozenset({200, 320, 506, 541})


def _gone(reason: BaseException) -> ChannelGone:
    closed = pika.exceptions.ChannelClosedByBroker | pika.exceptions.ConnectionClosedByBroker
    blames_us = isinstance(reason, closed) and int(reason.reply_code) not in _NOT_OUR_FAULT
    if isinstance(reason, pika.exceptions.ChannelClosed):
        return ChannelGone(int(reason.reply_code), str(reason.reply_text), blames_us=blames_us)
    return ChannelGone(0, f"{type(reason).__name__}: {reason}", blames_us=blames_us)


def _resolve(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _slow_delivery(_channel: object, method: Any, _properties: object, _body: object) -> None:
    raise RuntimeError(f"delivery for {method.consumer_tag!r} came past the fast way: its channel is not watched")


def _slow_answer(frame: Any) -> None:
    raise RuntimeError(f"{frame!r} came past the publisher's reader: its channel is not watched")
