"""The rpc store: publishes each result to the client's reply queue.

Before it: the master passes a document that a child has encoded, with the ``reply_to`` of the task's message. After it:
``amqp.publish.publisher``, the publishing connection, which batches, confirms and repeats. Runs in the master. The
message: default exchange, routing key ``reply_to``, the task's correlation id, the document as body, and the properties
of Celery's rpc backend in its order. The client declares the queue; this store never does. A reply whose queue no
longer exists is counted, and logged once per queue; it never fails a task.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from turbo.amqp.publish.confirms import Published
from turbo.backends.store import Done, ResultWrite, StoreOutcome, StoreSettings, report
from turbo.log_format import printable
from turbo.protocol.properties import Properties, encode_header

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Maximum number of reply queues that are remembered as logged; the oldest is dropped and may be logged again.
_LOGGED_QUEUES = 4096
#: Attempts to publish a reply that the broker nacks (a full queue), and the first pause between them in seconds.
_NACK_TRIES = 5
_NACK_DELAY = 0.5
_LONGEST_SHORT_STRING = 255


class ReplyPublisher(Protocol):
    """The part of ``amqp.publish.publisher.Publisher`` that replies use."""

    @property
    def refusal(self) -> str:
        """Inside ``done``: why the message was refused."""

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        mandatory: bool = False,
        done: Callable[[Published], None] | None = None,
    ) -> None:
        """Publish a message; ``done`` is called once with the outcome."""


class RpcStore:
    """Publishes documents as replies.

    The publisher belongs to the master, which starts, drains and stops it.
    """

    def __init__(
        self,
        publisher: ReplyPublisher,
        settings: StoreSettings,
        *,
        on_relief: Callable[[], None] | None = None,
    ) -> None:
        self._publisher = publisher
        self._high_water = settings.high_water
        self._delivery_mode = 2 if settings.persistent else 1
        self._on_relief = on_relief
        self._middles: dict[tuple[str, str], bytes] = {}
        self._backlog = 0
        self._congested = False
        self._logged: OrderedDict[str, None] = OrderedDict()
        self._stopped = False
        self._idle = asyncio.Event()
        #: Number of replies since the start that the broker could not route.
        self.unroutable = 0

    @property
    def backlog(self) -> int:
        """Number of writes whose ``done`` has not been called."""
        return self._backlog

    @property
    def high_water(self) -> int:
        """The backlog at which the master stops dispatching tasks."""
        return self._high_water

    @property
    def congested(self) -> bool:
        """True from the high water mark until the backlog is down to half of it."""
        return self._congested

    def store(self, write: ResultWrite, done: Done) -> None:
        """Publish the reply; discard the document if the caller wants no reply."""
        self._backlog += 1
        if self._backlog >= self._high_water:
            self._congested = True
        if not write.reply_to:
            asyncio.get_running_loop().call_soon(self._settle, done, StoreOutcome.DISCARDED)
            return
        correlation_id = (write.correlation_id or write.task_id).encode()
        if self._stopped or max(len(correlation_id), len(write.reply_to.encode())) > _LONGEST_SHORT_STRING:
            why = "the result store is closed" if self._stopped else "its id or reply queue is too long"
            logger.error("Result of task %s not sent: %s", printable(write.task_id), why)
            outcome = StoreOutcome.FAILED if self._stopped else StoreOutcome.REFUSED
            asyncio.get_running_loop().call_soon(self._settle, done, outcome)
            return
        self._publish(write, self._header(write, correlation_id), done, 1)

    def _header(self, write: ResultWrite, correlation_id: bytes) -> bytes:
        """Return the content header.

        Everything but size and correlation id is cached per content type.
        """
        kind = (write.content_type, write.content_encoding)
        middle = self._middles.get(kind)
        if middle is None:
            properties = Properties(
                content_type=kind[0],
                content_encoding=kind[1],
                headers={},
                delivery_mode=self._delivery_mode,
                priority=0,
                correlation_id="",
            )
            # class, weight and size are 12 bytes in front; the empty correlation id is the last byte
            middle = self._middles[kind] = encode_header(properties, 0)[12:-1]
        size = len(correlation_id)
        return b"%b%b%c%b" % (struct.pack(">HHQ", 60, 0, len(write.payload)), middle, size, correlation_id)

    def _publish(self, write: ResultWrite, header: bytes, done: Done, attempt: int) -> None:
        def published(outcome: Published) -> None:
            self._on_published(write, header, done, attempt, outcome)

        assert write.reply_to is not None
        self._publisher.publish("", write.reply_to, header, write.payload, mandatory=True, done=published)

    def _on_published(self, write: ResultWrite, header: bytes, done: Done, attempt: int, outcome: Published) -> None:
        if outcome is Published.CONFIRMED:
            self._settle(done, StoreOutcome.STORED)
        elif outcome is Published.RETURNED:
            self._note_unroutable(write)
            self._settle(done, StoreOutcome.UNROUTABLE)
        elif outcome is Published.NACKED and attempt < _NACK_TRIES and not self._stopped:
            asyncio.get_running_loop().call_later(
                _NACK_DELAY * attempt, self._publish, write, header, done, attempt + 1
            )
        else:
            logger.error(
                "Result of task %s not sent to %s: %s",
                printable(write.task_id),
                printable(write.reply_to),
                self._publisher.refusal or outcome.name,
            )
            self._settle(done, StoreOutcome.REFUSED if outcome is Published.REFUSED else StoreOutcome.FAILED)

    def _note_unroutable(self, write: ResultWrite) -> None:
        self.unroutable += 1
        queue = write.reply_to or ""
        if queue in self._logged:
            self._logged.move_to_end(queue)
            return
        self._logged[queue] = None
        if len(self._logged) > _LOGGED_QUEUES:
            self._logged.popitem(last=False)
        logger.warning("Reply queue %s is gone; discarding the result of task %s and any further results for it",
                       queue, write.task_id)  # fmt: skip

    def _settle(self, done: Done, outcome: StoreOutcome) -> None:
        self._backlog -= 1
        report(((done, outcome),))
        if not self._backlog:
            self._idle.set()
        if self._congested and self._backlog <= self._high_water // 2:
            self._congested = False
            if self._on_relief is not None:
                self._on_relief()

    async def start(self) -> None:
        """Do nothing: the master starts the publisher."""

    async def drain(self, deadline: float) -> bool:
        """Wait until every reply is confirmed or until ``deadline`` (``time.monotonic``).

        Returns whether all are.
        """
        while self._backlog and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), left)
            except TimeoutError:
                break
        return not self._backlog

    async def stop(self, deadline: float) -> None:
        """Drain, then refuse further writes.

        The publisher, which the master stops next, reports the remaining ones.
        """
        await self.drain(deadline)
        self._stopped = True
