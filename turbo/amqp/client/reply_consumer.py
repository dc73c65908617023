"""Consumes a client's reply queues in a thread of its own.

The thread starts at the first wait for an rpc result. Between the broker and ``backends.rpc.client``. It runs in
clients, and in a child whose task waits for another task. One thread and one connection per process serve the reply
queues of all threads. The queues are declared as Celery declares them (durable, auto-delete, ``x-expires``), so either
library may declare first. It must never decode a reply, publish, or keep the program from ending.

The broker deletes an auto-delete queue when its consumer's connection ends: replies sent while the client is away are
lost, as with Celery. The queue is declared again when the broker is back.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turbo.amqp.connect_errors import explain
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

#: Longest wait for events, in seconds: bounds the delay of heartbeats and of closing.
_MAX_WAIT = 1.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One message from a reply queue, undecoded."""

    correlation_id: str | None
    content_type: str | None
    content_encoding: str | None
    body: bytes
    #: The message's ``compression`` header, if the sender compressed it.
    compression: str | None = None


@dataclass(slots=True)
class _Source:
    """One reply queue. Written by the consuming thread, except ``queue``."""

    queue: Queue
    #: Set when all replies that were in the queue before consuming began have arrived.
    ready: threading.Event = field(default_factory=threading.Event)
    #: Number of those replies that have not arrived yet.
    expected: int = 0
    consuming: bool = False


class ReplyConsumer:
    """A thread that passes every reply to ``on_reply``.

    After a fork its owner creates a new one.
    """

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        on_reply: Callable[[Reply], None],
        *,
        tls: TlsOptions | None = None,
        name: str = "turbo replies",
    ) -> None:
        """``addresses`` are tried in order. The thread calls ``on_reply``."""
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
        self.last_error: str | None = None

    def consume(self, queue: Queue, timeout: float | None) -> bool:
        """Consume ``queue``.

        Wait up to ``timeout`` seconds for the replies that it already holds. Returns whether all of those have arrived.
        Replies keep coming until ``close``.
        """
        with self._lock:
            if self._closing.is_set():
                raise OperationalError("the reply consumer is closed")
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
            thread.join(2 * _MAX_WAIT + 3)

    @staticmethod
    def _wake(connection: pika.BlockingConnection) -> None:
        from pika.exceptions import AMQPError  # pika costs a program that only sends tasks 60 ms of start-up

        try:
            connection.add_callback_threadsafe(lambda: None)
        except AMQPError:
            # The connection has just ended, which wakes the thread too.
            logger.debug("the connection for replies closed before it could be woken")

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        from pika.exceptions import AMQPError  # pika costs a program that only sends tasks 60 ms of start-up

        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._session()
            except (AMQPError, OSError) as error:
                failures = 0 if time.monotonic() - began > _MAX_WAIT else failures + 1
                self.last_error = explain(error)
                logger.warning("connection for task replies lost or refused: %s", self.last_error)
                self._closing.wait(reconnect_delay(max(failures, 1), random.random()))
            except Exception as error:
                # Go on: a waiting caller gets a timeout with this cause, not a thread that silently ended.
                failures += 1
                self.last_error = repr(error)
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
            self.last_error = None
            while not self._closing.is_set():
                self._consume_new(channel)
                connection.process_data_events(time_limit=_MAX_WAIT)
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
            source.expected = declared.method.message_count
            source.consuming = True
            channel.basic_consume(queue.name, self._receiver(source), auto_ack=True)
            if not source.expected:
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
            if source.expected:
                source.expected -= 1
                if not source.expected:
                    source.ready.set()

        return receive


def _compression(properties: BasicProperties) -> str | None:
    name = (properties.headers or {}).get("compression")
    return name if isinstance(name, str) else None
