"""The seam between the master and a result store.

Before it in the data's way: a child has encoded the document (``protocol.result_meta``) and the outcome ring
has carried it to the master. After it: Redis, the client's reply queue, or nothing. The master alone runs a
store; the reading side of a client is in ``backends.reader``.

A store only moves bytes. It never decodes a document that it is given, never blocks the loop, never drops a
write in silence, and calls each ``done`` exactly once.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

logger = logging.getLogger(__name__)


class StoreOutcome(enum.Enum):
    """What became of one write. Everything but ``FAILED`` lets the delivery be settled, ``REFUSED`` as a failure."""

    #: The store has answered that it holds the document.
    STORED = "stored"
    #: The store holds a newer or final document of the task, which was left as it is.
    KEPT = "kept"
    #: rpc only: nobody owns the reply queue any more, so the broker gave the reply back.
    UNROUTABLE = "unroutable"
    #: There is nowhere to send it: no result backend, or a caller that asked for no reply.
    DISCARDED = "discarded"
    #: Given up; the log names the task and the reason.
    FAILED = "failed"
    #: The same, and no later attempt would end otherwise: the store has understood and does not take it.
    REFUSED = "refused"

    @property
    def ok(self) -> bool:
        """Whether the outcome of the task is as safe as its configuration asks for."""
        return self not in (StoreOutcome.FAILED, StoreOutcome.REFUSED)


class ResultWrite(NamedTuple):
    """One document to be stored.

    A named tuple, since one is made per task in the master (bench/result_store.py).
    """

    task_id: str
    #: The encoded document, exactly as a client will read it.
    payload: bytes
    #: An existing SUCCESS must stay: set when the master reports a loss or a kill that may have come too
    #: late.
    guard: bool = False
    #: Name of the reply queue; only rpc looks at it. None or empty: no reply is wanted.
    reply_to: str | None = None
    #: rpc only; None means ``task_id``.
    correlation_id: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    #: The document says FAILURE, whose lifetime may differ (``StoreSettings.failure_expires``).
    failed: bool = False


Done = Callable[[StoreOutcome], None]


def report(settled: Iterable[tuple[Done, StoreOutcome]]) -> None:
    """Call every ``done``. One that raises is logged and does not keep the others from hearing."""
    for done, outcome in settled:
        try:
            done(outcome)
        except Exception:
            logger.exception("a listener to a stored result raised; the result itself is %s", outcome.value)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the application's configuration says about storing. Times in seconds."""

    #: Lifetime of a document; None, 0 or less: for ever. ``result_expires``.
    expires: float | None = 86400.0
    #: Lifetime of a FAILURE; None: as ``expires``. ``result_failure_expires``.
    failure_expires: float | None = None
    #: rpc replies survive a broker restart. ``result_persistent``.
    persistent: bool = False
    #: Put before every key. ``result_backend_transport_options['global_keyprefix']``.
    global_keyprefix: str = ""
    #: Longest time without a reply before the connection counts as dead. ``redis_socket_timeout``.
    reply_timeout: float = 30.0
    #: For the connection and its handshake together. ``redis_socket_connect_timeout``.
    connect_timeout: float = 10.0
    #: How long a write is repeated after the store's first error reply (a lost connection has no such bound).
    give_up_after: float = 60.0
    #: Unanswered writes from which on ``congested`` is true.
    high_water: int = 10_000
    #: The same in bytes of documents.
    high_water_bytes: int = 64 * 1024 * 1024
    #: ``redis_backend_use_ssl``: ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname.
    redis_ssl: Mapping[str, object] | None = None


class ResultStore(Protocol):
    """What the master asks of a store. All methods belong to the loop's thread."""

    @property
    def backlog(self) -> int:
        """Number of writes whose ``done`` has not been called."""

    @property
    def high_water(self) -> int:
        """The backlog from which on the master shall dispatch nothing more."""

    @property
    def congested(self) -> bool:
        """True from the high water mark (writes or bytes) until the backlog is down to half of it."""

    def store(self, write: ResultWrite, done: Done) -> None:
        """Accept a write, always; ``done`` is called once, later, never from inside this call."""

    async def start(self) -> None:
        """Begin to connect; return at once, whether the server is up or not."""

    async def drain(self, deadline: float) -> bool:
        """Wait until the backlog is empty, or until ``deadline`` (``time.monotonic``).

        Return whether it is.
        """

    async def stop(self, deadline: float) -> None:
        """Drain, then close.

        What is left at the deadline ends as FAILED and is named in the log. Idempotent.
        """
