"""The part of an app that hands out connections: ``app.connection()``, ``app.pool``, ``app.pipeline()``.

Part of ``Turbo``, for programs that send. Nothing here connects by itself. What it hands out is
``app.publish.connections``'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.amqp.client.pipeline import WINDOW
from turbo.app.publish.connections import Connection, Pool, Producer, given_or

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from turbo.app.conf.conf import Settings
    from turbo.app.publish.sending import Sender


class Connecting:
    """Something with connections to a broker."""

    sending: Sender
    conf: Settings

    def pipeline(self, window: int = WINDOW) -> AbstractContextManager[None]:
        """Send what this thread sends inside the block without waiting for each message by itself.

        ``with app.pipeline():`` calls return when their message is written to the connection, and up to ``window``
        messages are unconfirmed at a time; the block ends when the broker has confirmed all of them. Raises
        OperationalError, in a later call of the block or at its end, for a message that was refused, that no queue
        takes, or that could not be confirmed.
        """
        return self.sending.publishing.pipeline(window)

    def connection(self, url: str | None = None, connect_timeout: float | None = None) -> Connection:
        """Return a connection of its own, to ``broker_write_url`` or ``url``; it connects when it is used."""
        return Connection(lambda: self.sending.publishing.publisher(url, connect_timeout), own=True)

    connection_for_write = connection

    def connection_for_read(self, url: str | None = None, connect_timeout: float | None = None) -> Connection:
        """Return the same to ``broker_read_url``."""
        return self.connection(url or self.conf["broker_read_url"], connect_timeout)

    @property
    def pool(self) -> Pool[Connection]:
        """The connections of this app's publisher: ``with app.pool.acquire() as connection``."""
        return Pool(self._pooled, self.conf["broker_pool_limit"], self.sending.publishing.close)

    @property
    def producer_pool(self) -> Pool[Producer]:
        """The same as producers: ``with app.producer_pool.acquire() as producer``."""
        return Pool(lambda: Producer(self._pooled()), self.conf["broker_pool_limit"], self.sending.publishing.close)

    def connection_or_acquire(
        self, connection: Connection | None = None, pool: bool = True
    ) -> AbstractContextManager[Connection]:
        """Use ``connection`` in a ``with`` block, or one of the pool (``pool=False``: a new one)."""
        return given_or(connection, self._pooled if pool else self.connection)

    def producer_or_acquire(self, producer: Producer | None = None) -> AbstractContextManager[Producer]:
        """Use ``producer`` in a ``with`` block, or one of the pool."""
        return given_or(producer, lambda: Producer(self._pooled()))

    default_connection = connection_or_acquire
    default_producer = producer_or_acquire

    def _pooled(self) -> Connection:
        return Connection(self.sending.publishing.client, own=False)
