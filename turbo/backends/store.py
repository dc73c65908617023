"""The interface between the master and a result store.

Before it: a child has encoded the document (``protocol.result_meta``) and passed it to the master through the outcome
ring. After it: Redis, a database, the client's reply queue, or nothing. Only the master runs a store; clients read
through ``backends.reader``.

A store only moves bytes. It never decodes a value that it stores, never blocks the loop, never drops a write
without a log message, and calls each ``done`` exactly once.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from turbo.backends.sql_settings import SqlSettings

logger = logging.getLogger(__name__)


class StoreOutcome(enum.Enum):
    """The outcome of one write.

    ``policy.finishing`` says what follows: after ``FAILED`` the task may run again, after ``REFUSED`` it fails.
    """

    #: The store has confirmed that it holds the document.
    STORED = "stored"
    #: The store already holds a newer or final document of the task and keeps it.
    KEPT = "kept"
    #: rpc only: the reply queue no longer exists, so the broker returned the reply.
    UNROUTABLE = "unroutable"
    #: The document has no destination: no result backend, or a caller that wants no reply.
    DISCARDED = "discarded"
    #: The store gave up; the log contains the task and the reason.
    FAILED = "failed"
    #: The store rejects the document permanently: another attempt would fail too.
    REFUSED = "refused"

    @property
    def ok(self) -> bool:
        """Whether the result is stored as safely as the configuration requires."""
        return self not in (StoreOutcome.FAILED, StoreOutcome.REFUSED)


class ResultWrite(NamedTuple):
    """One document to store.

    A named tuple for speed, since the master makes one per task (bench/result_store.py).
    """

    task_id: str
    #: The encoded document, exactly as a client reads it.
    payload: bytes
    #: Do not overwrite a SUCCESS. Set when the master reports a lost or killed task, which may have ended before.
    guard: bool = False
    #: Name of the reply queue, for rpc only. None or empty: no reply is wanted.
    reply_to: str | None = None
    #: For rpc only; None means ``task_id``.
    correlation_id: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    #: The document is a FAILURE, whose lifetime may differ (``StoreSettings.failure_expires``).
    failed: bool = False


Done = Callable[[StoreOutcome], None]


def report(settled: Iterable[tuple[Done, StoreOutcome]]) -> None:
    """Call every ``done`` with its outcome.

    The error of one is logged, and the others are still called.
    """
    for done, outcome in settled:
        try:
            done(outcome)
        except Exception:
            logger.exception("The callback of a result write raised (outcome of the write: %s)", outcome.value)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings for storing results. Times are in seconds."""

    #: ``result_expires``: lifetime of a document; None, 0 or less: no expiry.
    expires: float | None = 86400.0
    #: ``result_failure_expires``: lifetime of a FAILURE; None means ``expires``.
    failure_expires: float | None = None
    #: ``result_persistent``: rpc replies survive a restart of the broker.
    persistent: bool = False
    #: ``result_backend_transport_options['global_keyprefix']``: prefix of every key.
    global_keyprefix: str = ""
    #: ``redis_socket_timeout``: time without a reply after which the connection counts as dead.
    reply_timeout: float = 30.0
    #: ``redis_socket_connect_timeout``: limit for the connection and its handshake together.
    connect_timeout: float = 10.0
    #: How long a write is repeated after the store's first error reply. After a lost connection there is no limit.
    give_up_after: float = 60.0
    #: Number of unanswered writes at which ``congested`` becomes True.
    high_water: int = 10_000
    #: Bytes of unanswered writes at which ``congested`` becomes True.
    high_water_bytes: int = 64 * 1024 * 1024
    #: ``redis_backend_use_ssl``: ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname.
    redis_ssl: Mapping[str, object] | None = None
    #: ``database_*``, for a database.
    sql: SqlSettings = field(default_factory=SqlSettings)


class ResultStore(Protocol):
    """The methods of a store that the master calls, all in the loop's thread."""

    @property
    def backlog(self) -> int:
        """Number of writes whose ``done`` has not been called."""

    @property
    def high_water(self) -> int:
        """The backlog at which the master stops dispatching tasks."""

    @property
    def congested(self) -> bool:
        """True from the high water mark until the backlog is down to half of it.

        Writes and bytes have one each.
        """

    def store(self, write: ResultWrite, done: Done) -> None:
        """Accept a write; never refuses.

        ``done`` is called once, after this call has returned.
        """

    async def start(self) -> None:
        """Start to connect; return at once, whether or not the server is up."""

    async def drain(self, deadline: float) -> bool:
        """Wait until the backlog is empty or until ``deadline`` (``time.monotonic``).

        Returns whether it is empty.
        """

    async def stop(self, deadline: float) -> None:
        """Drain, then close. Idempotent.

        Writes that are left at the deadline end as FAILED, and their tasks are logged.
        """
