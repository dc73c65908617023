"""Declares queues with their exchanges and bindings.

A failure of one never affects another. Used by the session in the master before it consumes. It has a channel of its
own, because the broker closes the channel of a declaration that does not fit. It must never publish or consume.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from enum import IntEnum, unique
from functools import partial
from typing import TYPE_CHECKING

import pika.exceptions

from turbo.amqp.channel_calls import ChannelCalls, ChannelGone
from turbo.amqp.delayed_delivery import DELIVERY, cascade, delivery_bindings, parking_binding
from turbo.amqp.queue_types import is_quorum_by, without_refused
from turbo.amqp.refusals import Refusals

if TYPE_CHECKING:
    from turbo.amqp.fast_connection import FastConnection
    from turbo.amqp.topology import Queue

logger = logging.getLogger("turbo.amqp.topology")

PRECONDITION_FAILED = 406

_Step = Callable[[ChannelCalls], Awaitable[object]]


@unique
class Declared(IntEnum):
    """The result of a declaration."""

    #: The queue exists with the requested properties.
    AS_ASKED = 1
    #: It exists with other properties and can be consumed.
    DIFFERENT = 2
    #: It cannot be used now.
    REFUSED = 3


class Declarer:
    """Declares over one connection, one call at a time.

    ``delay_queue_type``: type of the queues in which producers delay messages for quorum queues, quorum or classic.
    """

    def __init__(
        self, connection: FastConnection, delay_queue_type: str = "quorum", refusals: Refusals | None = None
    ) -> None:
        self._connection = connection
        self._refusals = refusals or Refusals()
        self._delay_queue_type = delay_queue_type
        self._calls: ChannelCalls | None = None
        self._lock = asyncio.Lock()
        #: Whether the cascade is known to exist.
        self._parking = False

    async def declare(self, queue: Queue) -> Declared:
        """Declare exchanges, queue and bindings.

        Raises ``ChannelGone`` only when the connection is gone.
        """
        async with self._lock:
            if queue.no_declare:
                self._refusals.quorum.setdefault(queue.name, queue.quorum)
                return await self._accept_as_is(queue)
            differences: list[tuple[str, ChannelGone]] = []
            for binding in queue.all_bindings():
                exchange = binding.exchange
                if exchange.declarable:
                    gone = await self._try(partial(ChannelCalls.declare_exchange, exchange=exchange))
                    if gone is not None:
                        differences.append((f"exchange {exchange.name!r}", gone))
            differs = await self._declare_queue(queue)
            if differs is not None:
                differences.append(("the queue", differs))
                if await self._accept_as_is(queue, differs) is Declared.REFUSED:
                    return Declared.REFUSED
            for binding in queue.all_bindings():
                gone = await self._try(partial(ChannelCalls.bind_queue, name=queue.name, binding=binding))
                if gone is not None:
                    differences.append((f"the binding to {binding.exchange.name!r}", gone))
            for what, gone in differences:
                self._refusals.used_as_it_is(queue.name, what, gone)
            return Declared.AS_ASKED if differs is None else Declared.DIFFERENT

    async def _declare_queue(self, queue: Queue) -> ChannelGone | None:
        """Declare the queue without its bindings.

        Drop arguments that a quorum queue cannot have. Returns the refusal if the queue exists with other properties.
        """
        dropped: list[str] = []
        while True:
            try:
                gone = await self._try(partial(ChannelCalls.declare_queue, queue=queue))
            except ChannelGone as ended:
                self._refusals.declaring_ended_connection(queue.name, ended)
                raise
            less = None if gone is None else without_refused(queue, gone.text)
            if less is None:
                break
            queue, refused = less
            dropped.append(refused)
        if dropped:
            self._refusals.quorum[queue.name] = True
            if gone is None:
                arguments = " and ".join(dropped)
                self._refusals.remark(queue.name, f"a quorum queue cannot have {arguments}: declared without")
        await self._learn_type(queue, gone)
        return gone

    async def _learn_type(self, queue: Queue, differs: ChannelGone | None) -> None:
        """Record whether it is a quorum queue; the virtual host may set the default type."""
        known = self._refusals.quorum
        if differs is not None:
            if is_quorum_by(differs.text):
                known[queue.name] = True
        elif "x-queue-type" in queue.queue_arguments:
            known[queue.name] = queue.quorum
        elif queue.name not in known and queue.durable and not queue.exclusive:
            # Declare it again as a classic queue: the broker refuses that for a quorum queue and names the type.
            classic = replace(queue, queue_arguments={**queue.queue_arguments, "x-queue-type": "classic"})
            gone = await self._try(partial(ChannelCalls.declare_queue, queue=classic))
            known[queue.name] = gone is not None and is_quorum_by(gone.text)

    async def declare_delays(self, queues: Iterable[Queue]) -> bool:
        """Declare the cascade that delays messages, and route its end to ``queues``.

        Returns False if the broker refuses any of it: then delayed messages may not arrive, but all others do.
        """
        steps = self._cascade_steps()
        for queue in queues:
            outer, inner = delivery_bindings(queue)
            steps += [partial(ChannelCalls.bind_exchange, binding=one) for one in outer]
            steps += [partial(ChannelCalls.bind_queue, name=queue.name, binding=one) for one in inner]
        return await self._delays(steps)

    async def declare_parking(self, queue: Queue) -> bool:
        """Declare the same cascade, and route parked messages back to ``queue``.

        Returns False if the broker refuses that.
        """
        steps = [] if self._parking else self._cascade_steps()
        steps.append(partial(ChannelCalls.bind_queue, name=queue.name, binding=parking_binding(queue)))
        self._parking = await self._delays(steps)
        return self._parking

    def _cascade_steps(self) -> list[_Step]:
        levels, between = cascade(self._delay_queue_type)
        steps: list[_Step] = [partial(ChannelCalls.declare_exchange, exchange=DELIVERY)]
        for level in levels:
            (binding,) = level.all_bindings()
            steps.append(partial(ChannelCalls.declare_exchange, exchange=binding.exchange))
            steps.append(partial(ChannelCalls.declare_queue, queue=level))
            steps.append(partial(ChannelCalls.bind_queue, name=level.name, binding=binding))
        steps += [partial(ChannelCalls.bind_exchange, binding=one) for one in between]
        return steps

    async def _delays(self, steps: Iterable[_Step]) -> bool:
        async with self._lock:
            for step in steps:
                gone = await self._try(step)
                if gone is not None:
                    logger.error("delayed delivery could not be set up: %s", gone)
                    return False
        return True

    async def inspect(self, name: str) -> tuple[int, int] | None:
        """Return ready messages and consumers of a queue.

        None when the broker refuses access.
        """
        async with self._lock:
            try:
                return await (await self._channel()).inspect_queue(name)
            except ChannelGone as gone:
                if not gone.code:
                    raise
                return None

    async def purge(self, name: str) -> int:
        """Delete a queue's ready messages and return their number.

        0 when it does not exist.
        """
        async with self._lock:
            try:
                return await (await self._channel()).purge_queue(name)
            except ChannelGone as gone:
                if not gone.code:
                    raise
                logger.error("queue %r: cannot be purged: %s", name, gone)
                return 0

    async def delete(self, name: str) -> bool:
        """Delete a queue with its messages; False when the broker refuses."""
        async with self._lock:
            return await self._try(partial(ChannelCalls.delete_queue, name=name)) is None

    async def _accept_as_is(self, queue: Queue, why: ChannelGone | None = None) -> Declared:
        """Check whether the queue can be used although it was not declared.

        ``why`` is the reason that it was not.
        """
        try:
            await (await self._channel()).inspect_queue(queue.name)
        except ChannelGone as gone:
            if not gone.code:
                raise
            what = "is not there" if why is None else "could not be declared"
            self._refusals.refused(queue.name, what, why or gone)
            return Declared.REFUSED
        return Declared.DIFFERENT

    async def _try(self, step: _Step) -> ChannelGone | None:
        """Run one declaration; return the reason when the broker refuses it.

        Raises ``ChannelGone`` when the connection is gone.
        """
        try:
            await step(await self._channel())
        except ChannelGone as gone:
            if not gone.code:
                raise
            return gone
        except pika.exceptions.UnsupportedAMQPFieldException as error:
            return ChannelGone(PRECONDITION_FAILED, f"an argument cannot be sent: {error}")
        return None

    async def _channel(self) -> ChannelCalls:
        if self._calls is None or not self._calls.is_open:
            self._calls = await ChannelCalls.open(self._connection)
        return self._calls

    async def close(self) -> None:
        """Close the channel, if one was opened."""
        if self._calls is not None:
            await self._calls.close()
