"""``ClientPublisher``: how an ordinary process publishes. Blocking, confirmed, thread-safe, fork-safe.

``app.publish.sending`` hands it finished messages; it keeps a few connections and repeats what failed, as the
policy of the call says. Runs in web processes, scripts, and in a worker's children only where the program
publishes behind turbo's back. It must never start a thread: the process may fork at any moment.
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
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger("turbo.amqp.client.publisher")

#: Idle connections kept; more may be open while more threads publish at once.
IDLE_LIMIT: Final = 10
#: Seconds to wait for a confirm.
CONFIRM_TIMEOUT: Final = 30.0


class ClientPublisher:
    """Publishes to any of several brokers. Cheap to make: connects when something is published.

    ``timeout`` is for connecting, per broker, in seconds. Without ``confirms`` a message is only known to
    have been written to the socket.
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
        self._addresses = list(addresses)
        self._tls = tls
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
        declare: Sequence[Queue] = (),
        mandatory: bool = False,
        retry: PublishRetry | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Publish one message; return when the broker has confirmed it.

        ``header`` is the content header's payload. Queues in ``declare`` are made sure of first, and declared
        again if they have vanished meanwhile. ``mandatory`` makes an unroutable message an error. Repeats as
        ``retry`` says (by default three times) when the connection fails; then, and when the broker refuses,
        raises OperationalError.
        """
        limit = self._confirm_timeout if confirm_timeout is None else confirm_timeout

        def once() -> None:
            self._publish_once(exchange, routing_key, header, body, declare, mandatory, limit)

        self.repeat(once, PublishRetry() if retry is None else retry)

    def declare(self, queues: Sequence[Queue]) -> None:
        """Make sure of queues without publishing anything; repeats and raises as :meth:`publish` does."""
        self._with_connection(lambda connection: declare_all(connection, queues))

    def purge(self, queues: Sequence[Queue]) -> int:
        """Throw away what waits in queues; how many messages that were. Repeats and raises as :meth:`publish` does."""
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
        return ", ".join(address.label for address in self._addresses)

    def repeat(
        self,
        once: Callable[[], None],
        retry: PublishRetry,
        on_failure: Callable[[Exception, float], object] | None = None,
    ) -> None:
        """Call ``once``, again as ``retry`` says while it raises ConnectionGone; then that is raised.

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
        declare: Sequence[Queue],
        mandatory: bool,
        limit: float,
    ) -> None:
        connection = self.acquire()
        healthy = False
        try:
            declare_all(connection, declare)
            watch = mandatory or (bool(declare) and not exchange)
            returned = connection.publish(exchange, routing_key, header, body, watch, limit)
            if returned is not None and declare:
                # Somebody deleted the queue since this connection declared it.
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
        """Return a connection for this thread alone: an idle one that still works, or a new one.

        Give it back to :meth:`release`. Raises ConnectionGone.
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
        """Give a connection back; one that failed, or one too many, is closed."""
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
        """Connect to the broker that worked last, or to the next one that does. Raises ConnectionGone."""
        properties: dict[str, object] = {
            "product": "turbo",
            "platform": f"Python {sys.version.split()[0]}",
            "connection_name": f"turbo-publisher {os.getpid()}@{socket.gethostname()}",
        }
        failure: ConnectionGone | None = None
        for turn in range(len(self._addresses)):
            place = (self._preferred + turn) % len(self._addresses)
            try:
                connection = ClientConnection(
                    self._addresses[place],
                    tls=self._tls,
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
        """Close the idle connections; those in use are closed when their publish ends. It can be used
        again.
        """
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def after_fork(self) -> None:
        """In a forked child: drop the copies of the parent's connections without a word to the broker.

        Kept open, they would hide the parent's death from the broker.
        """
        self._lock = threading.Lock()
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle = []
        self._busy = set()


def unroutable(exchange: str, routing_key: str, fault: Fault) -> str:
    """The text of the error for a mandatory message that came back."""
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
