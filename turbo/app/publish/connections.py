"""``app.connection()``, ``app.pool`` and what belongs to them: connections that a program holds in its hands.

For programs written for Celery, which reuse a connection by passing it to ``apply_async``. turbo's publisher keeps and
reuses connections by itself, so most of these are a view of it. Used by ``app.base``, and by ``app.publish.publishing``
for the ``connection=`` and ``producer=`` of a call. It must never take a connection of another library for its own.
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


class Released(ABC):
    """Something that is given back when it is not needed any more; a context manager that does so."""

    @abstractmethod
    def release(self) -> None:
        """Give it back."""

    def close(self) -> None:
        """The same, by the name that it has elsewhere."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Connection(Released):
    """A way to a broker. Connects when something is published, or when asked to; a context manager that closes it.

    One of the app's pool (``own=False``) is the app's publisher under another name: releasing it closes nothing.
    """

    def __init__(self, publisher: Callable[[], ClientPublisher], *, own: bool) -> None:
        self._publisher = publisher
        self._made: ClientPublisher | None = None
        self._own = own

    @property
    def publisher(self) -> ClientPublisher:
        """Who publishes over it."""
        if not self._own:
            return self._publisher()
        if self._made is None:
            self._made = self._publisher()
        return self._made

    @property
    def is_pooled(self) -> bool:
        """Whether it is the app's own publisher."""
        return not self._own

    def as_uri(self) -> str:
        """Where it leads, without the password."""
        return self.publisher.label

    def connect(self) -> Self:
        """Connect now. Raises OperationalError."""
        return self.ensure_connection(max_retries=0)

    def ensure_connection(
        self,
        errback: Callable[[Exception, float], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
    ) -> Self:
        """Connect now, trying again ``max_retries`` times (None: for ever) after pauses in seconds that grow from
        ``interval_start`` by ``interval_step`` up to ``interval_max``.

        ``errback(error, seconds)`` is called before each pause. Raises OperationalError when it is given up.
        """
        retry = PublishRetry(max_retries, interval_start, interval_step, interval_max)
        publisher = self.publisher
        publisher.repeat(lambda: publisher.release(publisher.acquire(), healthy=True), retry, errback)
        return self

    def release(self) -> None:
        """Close what it has opened; it connects again when used again. One of the pool goes back there."""
        if self._made is not None:
            self._made.close()

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()}>"


class Producer(Released):
    """What ``producer=`` of a call takes: a connection, as Celery's code passes it about."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def release(self) -> None:
        """Release the connection."""
        self.connection.release()


Item = TypeVar("Item", bound="Connection | Producer")


class Pool(Generic[Item]):
    """``app.pool`` and ``app.producer_pool``: hands out views of the app's publisher, which never run out."""

    def __init__(self, make: Callable[[], Item], limit: int | None, close: Callable[[], object]) -> None:
        self._make = make
        self._close = close
        #: ``broker_pool_limit``: how many idle connections are kept.
        self.limit = limit

    def acquire(self, block: bool = False, timeout: float | None = None) -> Item:
        """Return one at once. ``block`` and ``timeout`` are accepted for Celery's sake."""
        return self._make()

    def release(self, item: Item) -> None:
        """Take one back."""
        item.release()

    def force_close_all(self) -> None:
        """Close the connections of the app that nobody uses."""
        self._close()


def publisher_of(given: object) -> ClientPublisher | None:
    """Return who publishes for the ``connection=`` or ``producer=`` of a call; None: the app, as always.

    Raises TypeError for an object that is not of these classes.
    """
    connection = given.connection if isinstance(given, Producer) else given
    if not isinstance(connection, Connection):
        raise TypeError(
            f"connection= and producer= take what the app's own connection(), pool and producer_pool give, "
            f"not {type(given).__module__}.{type(given).__qualname__}"
        )
    return None if connection.is_pooled else connection.publisher


@contextmanager
def given_or(given: Any, make: Callable[[], Any]) -> Iterator[Any]:
    """Yield ``given``, which stays open; or else one made for the block."""
    if given is not None:
        yield given
        return
    with make() as made:
        yield made
