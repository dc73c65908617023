"""The embedded broker: a listener on loopback and its virtual hosts.

For trying turbo on a machine without RabbitMQ, and for tests. All data are in memory and lost when it stops. It runs on
an asyncio loop of the process that starts it, or in a process of its own (`process.py`). It must never listen on an
address that other machines can reach.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from dataclasses import dataclass

from turbo.embedded_broker.connections import Connection
from turbo.embedded_broker.vhost import VirtualHost
from turbo.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The current counts of a queue."""

    ready: int
    unacked: int
    consumers: int


class EmbeddedBroker:
    """An in-memory AMQP 0-9-1 broker on loopback.

    A virtual host is created when a client opens it. There is one user, `user` with `password`.
    """

    def __init__(self, user: str = "guest", password: str = "guest") -> None:
        self.credentials = (user, password)
        self._vhosts: dict[str, VirtualHost] = {}
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port; 0 means a free one.

        Raises ImproperlyConfigured for an address that is not loopback.
        """
        _require_loopback(host)
        self._loop = loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, loop), host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        logger.warning("embedded broker on %s:%d: in memory, only to try turbo and for tests", host, bound)
        return bound

    async def stop(self, deadline: float) -> None:
        """Close every connection and the listener, by `deadline` (time.monotonic()).

        Idempotent.
        """
        server, self._server = self._server, None
        if server is None or self._loop is None:
            return
        server.close()
        leaving = list(self._connections)
        for connection in leaving:
            connection.shut("broker forced connection closure with reason 'shutdown'")
        if leaving:
            await asyncio.wait([each.closed for each in leaving], timeout=max(0.0, deadline - self._loop.time()))
        for connection in list(self._connections):
            connection.abort()

    def queue_facts(self, queue: str, vhost: str = "/") -> QueueFacts | None:
        """Return the counts of a queue; None if it does not exist."""
        found = self.vhost(vhost).queues.get(queue)
        return None if found is None else QueueFacts(found.ready, found.unacked, len(found.consumers))

    def vhost(self, name: str) -> VirtualHost:
        """Return the virtual host of this name; create it if it is new."""
        if self._loop is None:
            raise ImproperlyConfigured("the embedded broker is not running")
        if name not in self._vhosts:
            self._vhosts[name] = VirtualHost(name, self._loop)
        return self._vhosts[name]

    def joined(self, connection: Connection) -> None:
        """Add a new connection, which calls this."""
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        """Remove an ended connection, which calls this."""
        self._connections.discard(connection)


def _require_loopback(host: str) -> None:
    """Refuse addresses that other machines can reach.

    A name must resolve to loopback only.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    addresses = [str(info[4][0]).partition("%")[0] for info in found]
    if not addresses or not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise ImproperlyConfigured(
            f"the embedded broker serves loopback only and stores nothing: it does not listen on {host!r}; "
            "use RabbitMQ for more than trying turbo"
        )
