"""Declares what a queue needs, one queue's trouble never becoming another's.

Used by the session in the master before it consumes. Works on a channel of its own, because the broker
answers a declaration that does not fit by closing the channel. It must never publish and never consume.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum, unique
from functools import partial
from typing import TYPE_CHECKING

import pika.exceptions

from turbo.amqp.channel_calls import ChannelCalls, ChannelGone
from turbo.amqp.delayed_delivery import DELIVERY, cascade, ways_in

if TYPE_CHECKING:
    from turbo.amqp.fast_connection import FastConnection
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.topology")

PRECONDITION_FAILED = 406
NOT_FOUND = 404

_Step = Callable[[ChannelCalls], Awaitable[None]]


@unique
class Declared(IntEnum):
    """What became of a declaration."""

    #: The queue is there exactly as asked.
    AS_ASKED = 1
    #: It is there with other properties; it can be consumed as it is.
    DIFFERENT = 2
    #: It cannot be used now.
    REFUSED = 3


class Declarer:
    """Declares over one connection. Calls are made one after the other, whoever asks.

    ``delay_queue_type`` is that of the queues in which producers delay messages for quorum queues: quorum or classic.
    """

    def __init__(self, connection: FastConnection, delay_queue_type: str = "quorum") -> None:
        self._connection = connection
        self._delay_queue_type = delay_queue_type
        self._calls: ChannelCalls | None = None
        self._turn = asyncio.Lock()

    async def declare(self, queue: Queue) -> Declared:
        """Declare exchanges, queue and bindings. Raises ``ChannelGone`` only when the connection is gone."""
        async with self._turn:
            if queue.no_declare:
                return await self._accept_as_is(queue)
            for binding in queue.all_bindings():
                exchange = binding.exchange
                if exchange.declarable:
                    gone = await self._try(partial(ChannelCalls.declare_exchange, exchange=exchange))
                    self._complain(gone, queue, f"exchange {exchange.name!r}")
            differs = await self._try(partial(ChannelCalls.declare_queue, queue=queue))
            self._complain(differs, queue, "the queue")
            if differs is not None and await self._accept_as_is(queue) is Declared.REFUSED:
                return Declared.REFUSED
            for binding in queue.all_bindings():
                gone = await self._try(partial(ChannelCalls.bind_queue, name=queue.name, binding=binding))
                self._complain(gone, queue, f"the binding to {binding.exchange.name!r}")
            return Declared.AS_ASKED if differs is None else Declared.DIFFERENT

    async def declare_delays(self, queues: Iterable[Queue]) -> bool:
        """Declare the cascade in which producers delay messages, and lead its end to ``queues``.

        False when the broker refuses any of it: delayed messages may then not arrive, all others do.
        """
        levels, between = cascade(self._delay_queue_type)
        steps: list[_Step] = [partial(ChannelCalls.declare_exchange, exchange=DELIVERY)]
        for level in levels:
            (binding,) = level.all_bindings()
            steps.append(partial(ChannelCalls.declare_exchange, exchange=binding.exchange))
            steps.append(partial(ChannelCalls.declare_queue, queue=level))
            steps.append(partial(ChannelCalls.bind_queue, name=level.name, binding=binding))
        steps += [partial(ChannelCalls.bind_exchange, binding=one) for one in between]
        for queue in queues:
            outer, inner = ways_in(queue)
            steps += [partial(ChannelCalls.bind_exchange, binding=one) for one in outer]
            steps += [partial(ChannelCalls.bind_queue, name=queue.name, binding=one) for one in inner]
        async with self._turn:
            for step in steps:
                gone = await self._try(step)
                if gone is not None:
                    logger.error("delayed delivery could not be set up: %s", gone)
                    return False
        return True

    async def inspect(self, name: str) -> tuple[int, int] | None:
        """Ready messages and consumers of a queue; None when the broker does not let us look."""
        async with self._turn:
            return await self._inspect(name)

    async def purge(self, name: str) -> int:
        """Delete a queue's ready messages; how many, 0 when it does not exist."""
        async with self._turn:
            try:
                return await (await self._channel()).purge_queue(name)
            except ChannelGone as gone:
                if not gone.code:
                    raise
                logger.error("queue %r: cannot be purged: %s", name, gone)
                return 0

    async def _accept_as_is(self, queue: Queue) -> Declared:
        return Declared.REFUSED if await self._inspect(queue.name) is None else Declared.DIFFERENT

    async def _inspect(self, name: str) -> tuple[int, int] | None:
        try:
            return await (await self._channel()).inspect_queue(name)
        except ChannelGone as gone:
            if not gone.code:
                raise
            logger.error("queue %r: cannot be used: %s", name, gone)
            return None

    async def _try(self, step: _Step) -> ChannelGone | None:
        """One declaration; the reason when the broker refuses it. Raises when the connection is gone."""
        try:
            await step(await self._channel())
        except ChannelGone as gone:
            if not gone.code:
                raise
            return gone
        except pika.exceptions.UnsupportedAMQPFieldException as error:
            return ChannelGone(PRECONDITION_FAILED, f"an argument cannot be sent: {error}")
        return None

    def _complain(self, gone: ChannelGone | None, queue: Queue, what: str) -> None:
        if gone is None:
            return
        if gone.code == PRECONDITION_FAILED:
            logger.error(
                "queue %r: %s exists with other properties than configured, and is used as it is: %s",
                queue.name,
                what,
                gone,
            )
        else:
            logger.error("queue %r: %s could not be declared: %s", queue.name, what, gone)

    async def _channel(self) -> ChannelCalls:
        if self._calls is None or not self._calls.is_open:
            self._calls = await ChannelCalls.open(self._connection)
        return self._calls

    async def close(self) -> None:
        """Close the channel, if one was opened."""
        if self._calls is not None:
            await self._calls.close()
