"""Consumes a client's reply queues in a thread of its own, from the first wait for an rpc result on.

Between the broker and ``backends.rpc.client``; runs in clients, and in a child whose task waits for
another. One thread and one connection a process serve every thread's reply queue. The queues are declared
as Celery declares them (durable, auto-delete, ``x-expires``), so either library may declare first. It never
decodes a reply, never publishes, and never keeps the program from ending.

An auto-delete queue goes with its consumer's connection: replies sent while the client is away are lost, as
with Celery. The queue is declared again as soon as the broker is back.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turbo.amqp.url import parameters
from turbo.exceptions import OperationalError
from turbo.policy.restarts import reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pika
    from pika import BasicProperties
    from pika.adapters.blocking_connection import BlockingChannel

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger(__name__)

#: Longest wait for events, in seconds: heartbeats are served and a closing client is noticed within it.
_TURN = 1.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One message from a reply queue, undecoded."""

    correlation_id: str | None
    content_type: str | None
    content_encoding: str | None
    body: bytes
    #: Of the message: its compression, when the sender compressed it.
    compression: str | None = None


@dataclass(slots=True)
class _Source:
    """One reply queue. Written by the consuming thread, except ``queue``."""

    queue: Queue
    #: Set once what was in the queue when consuming began has arrived.
    ready: threading.Event = field(default_factory=threading.Event)
    #: Replies still to come of those that were in the queue.
    owed: int = 0
    consuming: bool = False


class ReplyConsumer:
    """A thread that hands every reply to ``on_reply``. Made anew after a fork by its owner."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        on_reply: Callable[[Reply], None],
        *,
        tls: TlsOptions | None = None,
        name: str = "turbo replies",
    ) -> None:
        """``addresses`` are tried in order. Replies come to ``on_reply`` in the thread."""
        self._addresses = list(addresses)
        self._tls = tls
        self._name = name
        self._on_reply = on_reply
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}
        self._connection: pika.BlockingConnection | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        #: Text of the last failure to connect; None while connected.
        self.trouble: str | None = None

    def consume(self, queue: Queue, timeout: float | None) -> bool:
        """Make sure that ``queue`` is consumed; wait up to ``timeout`` seconds for what it holds already.

        Return whether it is. Once called, replies keep coming until ``close``.
        """
        with self._lock:
            if self._closing.is_set():
                raise OperationalError("the consumer of replies is closed")
            source = self._sources.get(queue.name)
            if source is None:
                source = self._sources[queue.name] = _Source(queue)
                if self._connection is not None:
                    self._wake(self._connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="turbo-replies", daemon=True)
                self._thread.start()
        return source.ready.is_set() or source.ready.wait(timeout)

    def close(self) -> None:
        """End the thread and its connection. Idempotent; waits a few seconds at most."""
        with self._lock:
            self._closing.set()
            connection, thread = self._connection, self._thread
        if connection is not None:
            self._wake(connection)
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * _TURN + 3)

    @staticmethod
    def _wake(connection: pika.BlockingConnection) -> None:
        from pika.exceptions import AMQPError  # pika costs a program that only sends tasks 60 ms of start-up

        try:
            connection.add_callback_threadsafe(lambda: None)
        except AMQPError:
            # it has just gone; the thread notices by itself
            logger.debug("the connection for replies closed while it was woken")

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        from pika.exceptions import AMQPError  # pika costs a program that only sends tasks 60 ms of start-up

        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._session()
            except (AMQPError, OSError) as error:
                failures = 0 if time.monotonic() - began > _TURN else failures + 1
                self.trouble = str(error) or type(error).__name__
                logger.warning("connection for task replies lost or refused: %s", self.trouble)
                self._closing.wait(reconnect_delay(max(failures, 1), random.random()))
            except Exception as error:
                # a waiting caller must see a timeout with this cause, not a thread that has silently gone
                failures += 1
                self.trouble = repr(error)
                logger.exception("connection for task replies failed")
                self._closing.wait(reconnect_delay(failures, random.random()))

    def _session(self) -> None:
        import pika  # pika costs a program that only sends tasks 60 ms of start-up

        candidates = [parameters(address, tls=self._tls, name=self._name) for address in self._addresses]
        connection = pika.BlockingConnection(candidates)
        try:
            channel = connection.channel()
            with self._lock:
                self._connection = connection
                for source in self._sources.values():
                    source.consuming = False
            self.trouble = None
            while not self._closing.is_set():
                self._consume_new(channel)
                connection.process_data_events(time_limit=_TURN)
        finally:
            with self._lock:
                self._connection = None
            if connection.is_open:
                connection.close()

    def _consume_new(self, channel: BlockingChannel) -> None:
        with self._lock:
            new = [source for source in self._sources.values() if not source.consuming]
        for source in new:
            queue = source.queue
            declared = channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(queue.queue_arguments),
            )
            source.owed = declared.method.message_count
            source.consuming = True
            channel.basic_consume(queue.name, self._receiver(source), auto_ack=True)
            if not source.owed:
                source.ready.set()

    def _receiver(self, source: _Source) -> Callable[..., None]:
        def receive(_channel: object, _deliver: object, properties: BasicProperties, body: bytes) -> None:
            self._on_reply(
                Reply(
                    properties.correlation_id,
                    properties.content_type,
                    properties.content_encoding,
                    body,
                    _compression(properties),
                )
            )
            if source.owed:
                source.owed -= 1
                if not source.owed:
                    source.ready.set()

        return receive


def _compression(properties: BasicProperties) -> str | None:
    name = (properties.headers or {}).get("compression")
    return name if isinstance(name, str) else None
