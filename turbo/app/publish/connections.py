"""The classes behind ``app.connection()``, ``app.pool`` and ``app.producer_pool``.

For programs written for Celery, which reuse a connection by passing it to ``apply_async``. turbo's publisher keeps and
reuses connections itself, so most of these objects are views of it. Used by ``app.base``, and by
``app.publish.publishing`` for the ``connection=`` and ``producer=`` of a call. Connections of other libraries are
refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from turbo.policy.publish_retry import PublishRetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from turbo.amqp.client.publisher import ClientPublisher


class Releasable(ABC):
    """A resource with ``release()``.

    As a context manager it is released at the end of the block.
    """

    @abstractmethod
    def release(self) -> None:
        """Release the resource."""

    def close(self) -> None:
        """Call :meth:`release`; Celery's programs use either name."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Connection(Releasable):
    """A connection to a broker.

    Connects when a message is published or on request; a context manager closes it. A connection of the app's pool
    (``own=False``) is a view of the app's publisher; releasing it closes nothing.
    """

    def __init__(self, publisher: Callable[[], ClientPublisher], *, own: bool) -> None:
        self._publisher = publisher
        self._made: ClientPublisher | None = None
        self._own = own

    @property
    def publisher(self) -> ClientPublisher:
        """The publisher that uses this connection."""
        if not self._own:
            return self._publisher()
        if self._made is None:
            self._made = self._publisher()
        return self._made

    @property
    def is_pooled(self) -> bool:
        """Whether this is a view of the app's publisher."""
        return not self._own

    def as_uri(self) -> str:
        """Return the broker's URL without the password."""
        return self.publisher.label

    def connect(self) -> Self:
        """Connect now; return self. Raises OperationalError."""
        return self.ensure_connection(max_retries=0)

    def ensure_connection(
        self,
        errback: Callable[[Exception, float], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
    ) -> Self:
        """Connect now, with up to ``max_retries`` retries (None: no limit); return self.

        The pauses between attempts grow from ``interval_start`` by ``interval_step`` up to ``interval_max``, in
        seconds. ``errback(error, seconds)`` is called before each pause. Raises OperationalError after the last retry.
        """
        retry = PublishRetry(max_retries, interval_start, interval_step, interval_max)
        publisher = self.publisher
        publisher.repeat(lambda: publisher.release(publisher.acquire(), healthy=True), retry, errback)
        return self

    def release(self) -> None:
        """Close the connection; it connects again at the next use.

        A view of the app's publisher closes nothing.
        """
        if self._made is not None:
            self._made.close()

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()}>"


class Producer(Releasable):
    """The value of a call's ``producer=``: a wrapper of a connection, as in Celery."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def release(self) -> None:
        """Release the connection."""
        self.connection.release()


Item = TypeVar("Item", bound="Connection | Producer")


class Pool(Generic[Item]):
    """``app.pool``, ``app.producer_pool``: views of the publisher, any number."""

    def __init__(self, make: Callable[[], Item], limit: int | None, close: Callable[[], object]) -> None:
        self._make = make
        self._close = close
        #: ``broker_pool_limit``: maximum number of idle connections that are kept.
        self.limit = limit

    def acquire(self, block: bool = False, timeout: float | None = None) -> Item:
        """Return an item immediately.

        ``block`` and ``timeout`` are accepted for compatibility and ignored.
        """
        return self._make()

    def release(self, item: Item) -> None:
        """Release an item."""
        item.release()

    def force_close_all(self) -> None:
        """Close the app's idle connections."""
        self._close()


def publisher_of(given: object) -> ClientPublisher | None:
    """Return the publisher for the ``connection=`` or ``producer=`` of a call.

    Returns None for a view of the app's own. Raises TypeError for an object of another class.
    """
    connection = given.connection if isinstance(given, Producer) else given
    if not isinstance(connection, Connection):
        raise TypeError(
            f"connection= and producer= accept objects from the app's connection(), pool and producer_pool, "
            f"not {type(given).__module__}.{type(given).__qualname__}"
        )
    return None if connection.is_pooled else connection.publisher


@contextmanager
def use_or_make(given: Any, make: Callable[[], Any]) -> Iterator[Any]:
    """Yield ``given``, left open, or a new resource released at the end."""
    if given is not None:
        yield given
        return
    with make() as made:
        yield made
