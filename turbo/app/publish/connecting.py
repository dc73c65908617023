"""The connection methods of an app: ``connection()``, ``pool``, ``pipeline()``.

A base class of ``Turbo``, for programs that send. The returned objects, from ``app.publish.connections``, connect when
they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.amqp.client.pipeline import WINDOW
from turbo.app.publish.connections import Connection, Pool, Producer, use_or_make

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from turbo.app.conf.conf import Settings
    from turbo.app.publish.sending import Sender


class Connecting:
    """The broker connections of an app."""

    sending: Sender
    conf: Settings

    def pipeline(self, window: int = WINDOW) -> AbstractContextManager[None]:
        """Return a context in which calls do not wait for their own confirm.

        Inside ``with app.pipeline():`` a call returns when its message is written to the connection; up to ``window``
        messages are unconfirmed at a time. The block ends when the broker has confirmed all of them. Raises
        OperationalError, in a later call of the block or at its end, for a message that was refused, that no queue
        takes, or that could not be confirmed.
        """
        return self.sending.publishing.pipeline(window)

    def send_event(
        self, kind: str, fields: Mapping[str, Any], retry: bool = True, retry_policy: Mapping[str, object] | None = None
    ) -> None:
        """Send an event of type ``kind`` with ``fields`` to monitors.

        Tasks have ``Task.send_event``. Raises EncodeError, and OperationalError when it could not be published.
        """
        self.sending.send_event(kind, fields, retry, retry_policy)

    @property
    def pipelined(self) -> bool:
        """Whether this thread is inside a block of :meth:`pipeline`."""
        return self.sending.publishing.pipelined

    def connection(self, url: str | None = None, connect_timeout: float | None = None) -> Connection:
        """Return a new connection to ``url``, which connects at first use.

        The default is ``broker_write_url``. ``connect_timeout`` is in seconds (default: ``broker_connection_timeout``).
        """
        return Connection(lambda: self.sending.publishing.publisher(url, connect_timeout), own=True)

    connection_for_write = connection

    def connection_for_read(self, url: str | None = None, connect_timeout: float | None = None) -> Connection:
        """Like :meth:`connection`, with ``broker_read_url`` as the default."""
        return self.connection(url or self.conf["broker_read_url"], connect_timeout)

    @property
    def pool(self) -> Pool[Connection]:
        """The pool of the app's connections: ``with app.pool.acquire() as connection``."""
        return Pool(self._pooled, self.conf["broker_pool_limit"], self.sending.publishing.close)

    @property
    def producer_pool(self) -> Pool[Producer]:
        """The app's producers: ``with app.producer_pool.acquire() as producer``."""
        return Pool(lambda: Producer(self._pooled()), self.conf["broker_pool_limit"], self.sending.publishing.close)

    def connection_or_acquire(
        self, connection: Connection | None = None, pool: bool = True
    ) -> AbstractContextManager[Connection]:
        """Return a context manager for ``connection`` or one of the pool.

        With ``pool=False`` it is a new connection instead of one of the pool.
        """
        return use_or_make(connection, self._pooled if pool else self.connection)

    def producer_or_acquire(self, producer: Producer | None = None) -> AbstractContextManager[Producer]:
        """Return a context manager for ``producer``, or for one of the pool."""
        return use_or_make(producer, lambda: Producer(self._pooled()))

    default_connection = connection_or_acquire
    default_producer = producer_or_acquire

    def _pooled(self) -> Connection:
        return Connection(self.sending.publishing.client, own=False)
