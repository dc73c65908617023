"""Publishes from an ordinary process: blocking, confirmed, thread-safe, fork-safe.

``app.publish.sending`` passes finished messages to ``ClientPublisher``. It keeps a few open connections and repeats a
failed publish according to the retry policy of the call. It runs in web processes and scripts, and in a worker's child
only if the program publishes without turbo's task context. It must never start a thread: the process may fork at any
moment.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from turbo.amqp.client import methods
from turbo.amqp.client.connection import CHANNEL, ClientConnection, ConnectionGone, Unconfirmed
from turbo.amqp.client.declaring import declare_all
from turbo.exceptions import OperationalError
from turbo.policy.publish_retry import PublishRetry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.amqp.client.methods import Fault
    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Exchange, Queue
    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger("turbo.amqp.client.publisher")

#: Most idle connections that stay open. While more threads publish at once, more may be open.
IDLE_LIMIT: Final = 10
#: Seconds to wait for a confirm.
CONFIRM_TIMEOUT: Final = 30.0


class ClientPublisher:
    """Publishes to any of several brokers. Connects at the first publish.

    ``timeout`` is the limit for connecting, per broker, in seconds. Without ``confirms`` the publisher only knows that
    a message was written to the socket.
    """

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        *,
        tls: TlsOptions | None = None,
        timeout: float = 4.0,
        confirms: bool = True,
        confirm_timeout: float = CONFIRM_TIMEOUT,
        idle_limit: int = IDLE_LIMIT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        #: The brokers to connect to, and what TLS needs.
        self.addresses = list(addresses)
        self.tls = tls
        self._timeout = timeout
        self._confirms = confirms
        self._confirm_timeout = confirm_timeout
        self._idle_limit = idle_limit
        self._sleep = sleep
        self._preferred = 0
        self._lock = threading.Lock()
        self._idle: list[ClientConnection] = []
        self._busy: set[ClientConnection] = set()
        _publishers.add(self)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        declare: Sequence[Queue | Exchange] = (),
        mandatory: bool = False,
        retry: PublishRetry | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Publish one message; return when the broker has confirmed it.

        ``header`` is the content header's payload. The queues in ``declare`` are declared first, and again if they have
        been deleted since. ``mandatory`` makes an unroutable message an error. When the connection fails, ``retry``
        says how often to repeat (by default three times). Raises OperationalError when that was not enough, and when
        the broker refuses.
        """
        limit = self._confirm_timeout if confirm_timeout is None else confirm_timeout

        def once() -> None:
            self._publish_once(exchange, routing_key, header, body, declare, mandatory, limit)

        self.repeat(once, PublishRetry() if retry is None else retry)

    def declare(self, queues: Sequence[Queue]) -> None:
        """Declare queues without publishing anything.

        Repeats and raises as :meth:`publish` does.
        """
        self._with_connection(lambda connection: declare_all(connection, queues))

    def purge(self, queues: Sequence[Queue]) -> int:
        """Delete the messages that wait in queues; return how many.

        Repeats and raises as :meth:`publish` does.
        """
        thrown = 0

        def purge(connection: ClientConnection) -> None:
            nonlocal thrown
            declare_all(connection, queues)
            for queue in queues:
                answer = connection.ask(methods.purge_queue(CHANNEL, queue.name), methods.QUEUE_PURGE_OK)
                thrown += methods.read_purged(answer)

        self._with_connection(purge)
        return thrown

    def _with_connection(self, work: Callable[[ClientConnection], None]) -> None:
        def once() -> None:
            connection = self.acquire()
            healthy = False
            try:
                work(connection)
                healthy = True
            finally:
                self.release(connection, healthy)

        self.repeat(once, PublishRetry())

    @property
    def label(self) -> str:
        """The brokers' addresses, without passwords."""
        return ", ".join(address.label for address in self.addresses)

    def repeat(
        self,
        once: Callable[[], None],
        retry: PublishRetry,
        on_failure: Callable[[Exception, float], object] | None = None,
    ) -> None:
        """Call ``once``, and again while it raises ConnectionGone and ``retry`` allows it.

        ``on_failure(error, seconds)`` is called before each pause.
        """
        waits = retry.waits()
        while True:
            try:
                once()
            except ConnectionGone as exc:
                wait = next(waits, None)
                if wait is None:
                    raise
                logger.warning("publishing failed, trying again in %g s: %s", wait, exc)
                if on_failure is not None:
                    on_failure(exc, wait)
                self._sleep(wait)
            else:
                return

    def _publish_once(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        declare: Sequence[Queue | Exchange],
        mandatory: bool,
        limit: float,
    ) -> None:
        connection = self.acquire()
        healthy = False
        try:
            declare_all(connection, declare)
            # A message for the default exchange comes back if its queue was deleted after this connection declared it.
            watch = mandatory or (bool(declare) and not exchange)
            returned = connection.publish(exchange, routing_key, header, body, watch, limit)
            if returned is not None and declare:
                # The queue is gone: declare it again and publish once more.
                connection.declared.difference_update(queue.name for queue in declare)
                declare_all(connection, declare)
                returned = connection.publish(exchange, routing_key, header, body, watch, limit)
            healthy = True
        finally:
            self.release(connection, healthy)
        if returned is not None and watch:
            raise OperationalError(unroutable(exchange, routing_key, returned))

    # -- connections -----------------------------------------------------------------------------------------

    def acquire(self) -> ClientConnection:
        """Return a connection for this thread alone: a working idle one, or a new one.

        The caller returns it with :meth:`release`. Raises ConnectionGone.
        """
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
                if connection is not None:
                    self._busy.add(connection)
            if connection is None:
                break
            if connection.usable():
                return connection
            self.release(connection, healthy=False)
        connection = self._connect()
        with self._lock:
            self._busy.add(connection)
        return connection

    def release(self, connection: ClientConnection, healthy: bool) -> None:
        """Return a connection to the pool; close it if it failed or if the pool is full."""
        with self._lock:
            self._busy.discard(connection)
            keep = healthy and len(self._idle) < self._idle_limit
            if keep:
                self._idle.append(connection)
        if keep:
            return
        if healthy:
            connection.close()
        else:
            connection.abort()

    def _connect(self) -> ClientConnection:
        """Connect to the broker that worked last, else to the next one that accepts.

        Raises ConnectionGone.
        """
        properties: dict[str, object] = {
            "product": "turbo",
            "platform": f"Python {sys.version.split()[0]}",
            "connection_name": f"turbo-publisher {os.getpid()}@{socket.gethostname()}",
        }
        failure: ConnectionGone | None = None
        for turn in range(len(self.addresses)):
            place = (self._preferred + turn) % len(self.addresses)
            try:
                connection = ClientConnection(
                    self.addresses[place],
                    tls=self.tls,
                    timeout=self._timeout,
                    confirms=self._confirms,
                    properties=properties,
                )
            except Unconfirmed as exc:
                failure = ConnectionGone(str(exc))
            except ConnectionGone as exc:
                failure = exc
            else:
                self._preferred = place
                return connection
        raise failure or ConnectionGone("no broker is configured")

    def close(self) -> None:
        """Close the idle connections.

        Connections in use return to the pool later; publishing connects again.
        """
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def after_fork(self) -> None:
        """Close a forked child's copies of its parent's sockets.

        Nothing is sent to the broker. If they stayed open, the broker could not notice the parent's death.
        """
        self._lock = threading.Lock()
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle = []
        self._busy = set()


def unroutable(exchange: str, routing_key: str, fault: Fault) -> str:
    """Return the error text for a mandatory message that the broker returned."""
    return f"no queue takes exchange {exchange!r}, routing key {routing_key!r}: {fault.code} {fault.text}"


_publishers: weakref.WeakSet[ClientPublisher] = weakref.WeakSet()


def _after_fork() -> None:
    for publisher in tuple(_publishers):
        publisher.after_fork()


def _at_exit() -> None:
    for publisher in tuple(_publishers):
        publisher.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
