"""Connects to one of several brokers, however long it takes.

Used in the master by ``amqp.consume.link`` and ``amqp.publish.publisher`` whenever they have no connection. It tries
the addresses in turn, without end, with the pauses of ``policy.restarts``; a hanging attempt does not delay the next
one. ``amqp.outages`` logs failures. It must never stop trying, which its observers decide, or leave a half-open
connection behind when cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from turbo.amqp.connect_errors import ConnectFailed, reason_of
from turbo.amqp.fast_connection import FastConnection
from turbo.amqp.outages import Outages
from turbo.amqp.url import parameters
from turbo.policy.restarts import BROKER_BACKOFF, Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    import pika

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress

    #: Takes the dialer and the number of failures in a row.
    FailureObserver = Callable[["Dialer[Any]", int], None]

logger = logging.getLogger("turbo.amqp.dialer")

C = TypeVar("C", bound=FastConnection)

#: Seconds after which another attempt starts beside one without an answer: an attempt may hang in a dead network path
#: while the broker is back.
PATIENCE = 2.0
#: Most attempts without an answer at one time.
MOST_PENDING = 4
#: Seconds after which a connection resets the count of failures.
STABLE = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect: ``label`` for logs, without a password, and pika's parameters."""

    label: str
    parameters: pika.ConnectionParameters


def endpoints_for(
    addresses: Sequence[BrokerAddress], *, heartbeat: float, tls: TlsOptions | None, name: str, timeout: float
) -> list[Endpoint]:
    """Return endpoints for addresses.

    ``timeout`` is the limit for TCP in seconds; the whole handshake may take three times as long.

    Reads TLS files. Raises ``ImproperlyConfigured``.
    """
    return [
        Endpoint(
            address.label,
            parameters(
                address,
                heartbeat=heartbeat,
                tls=tls,
                socket_timeout=timeout,
                stack_timeout=3 * timeout,
                name=name,
            ),
        )
        for address in addresses
    ]


class Dialer(Generic[C]):
    """Opens the connections for one purpose.

    ``open_one`` is ``FastConnection.open`` or that of a subclass. The count of failures belongs to the dialer.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        open_one: Callable[[pika.ConnectionParameters], Coroutine[Any, Any, C]],
        *,
        purpose: str,
        outages: Outages | None = None,
        backoff: Backoff = BROKER_BACKOFF,
        patience: float = PATIENCE,
        on_failure: FailureObserver | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """``purpose`` names the connection in logs.

        ``outages`` is shared by all connections of a worker. ``on_failure`` is called after each failed attempt,
        ``on_lost`` when the next connection is dialed after one that had worked.
        """
        if not endpoints:
            raise ValueError("no broker address")
        self._endpoints = list(endpoints)
        self._open_one = open_one
        self._purpose = purpose
        #: Logs the failures of this connection and of the worker's other connections.
        self.outages = outages or Outages()
        self._backoff = backoff
        self._patience = patience
        self._next = 0
        self._failures = 0
        #: Seconds to wait after the last failure.
        self._pause = 0.0
        self._connected_at: float | None = None
        #: Why the last attempt failed; None if none failed since the last connection.
        self.last_error: str | None = None
        #: Attempts in a row that the broker answered with a refusal that does not pass by itself.
        self.refusals = 0
        #: Total attempts.
        self.attempts = 0
        self._on_failure = on_failure
        self._on_lost = on_lost

    @property
    def address_count(self) -> int:
        """Number of addresses to try."""
        return len(self._endpoints)

    def same_brokers(self, other: Dialer[Any]) -> bool:
        """Whether the other dialer connects to the same brokers as the same user."""
        return self._targets() == other._targets()

    def _targets(self) -> list[tuple[Any, ...]]:
        found = [endpoint.parameters for endpoint in self._endpoints]
        return [(each.host, each.port, each.virtual_host, each.credentials, each.ssl_options is None) for each in found]

    async def dial(self) -> tuple[Endpoint, C]:
        """Connect to the next address that answers. Raises only ``CancelledError``."""
        self._count_last_connection()
        pending: dict[asyncio.Task[C], Endpoint] = {}
        await asyncio.sleep(self._delay())
        try:
            while True:
                failures = self._failures
                if len(pending) < MOST_PENDING:
                    self._start_attempt(pending)
                winner = await self._first_of(pending, self._patience)
                if winner is None and self._failures > failures:
                    winner = await self._first_of(pending, self._pause)
                if winner is not None:
                    self._connected_at = time.monotonic()
                    self.refusals = 0
                    self.last_error = None
                    return winner
        finally:
            await _drop(pending)

    def _delay(self) -> float:
        return reconnect_delay(self._failures, random.random(), self._backoff)

    def _count_last_connection(self) -> None:
        lived = None if self._connected_at is None else time.monotonic() - self._connected_at
        self._connected_at = None
        if lived is None:
            return
        if self._on_lost is not None:
            self._on_lost()
        if lived >= STABLE:
            self._failures = 0
        else:
            # A connection that breaks right after opening counts as a failure, so that the pauses grow.
            self._failures += 1

    def _start_attempt(self, pending: dict[asyncio.Task[C], Endpoint]) -> None:
        endpoint = self._endpoints[self._next % len(self._endpoints)]
        self._next += 1
        self.attempts += 1
        logger.debug("%s: connecting to %s (attempt %d)", self._purpose, endpoint.label, self.attempts)
        task = asyncio.ensure_future(self._open_one(endpoint.parameters))
        pending[task] = endpoint

    async def _first_of(self, pending: dict[asyncio.Task[C], Endpoint], timeout: float) -> tuple[Endpoint, C] | None:
        """Return the first connection that opens; None at the timeout or on failure."""
        if not pending:
            await asyncio.sleep(timeout)
            return None
        done, _ = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        winner: tuple[Endpoint, C] | None = None
        for task in done:
            error = task.exception()
            if error is None and winner is None:
                winner = (pending.pop(task), task.result())
            elif error is not None:
                self._note_failure(pending.pop(task), error)
        return winner

    def _note_failure(self, endpoint: Endpoint, error: BaseException) -> None:
        failed = error if isinstance(error, ConnectFailed) else _unexpected(error)
        self._failures += 1
        self.refusals = self.refusals + 1 if failed.refused else 0
        self.last_error = f"{endpoint.label}: {failed}" + (f" ({failed.hint})" if failed.hint else "")
        self._pause = self._delay()
        self.outages.failed(self._purpose, endpoint.label, failed, self._pause, self._failures)
        if self._on_failure is not None:
            self._on_failure(self, self._failures)


def _unexpected(error: BaseException) -> ConnectFailed:
    failed = ConnectFailed(reason_of(error))
    failed.__cause__ = error
    return failed


async def _drop(pending: dict[asyncio.Task[C], Endpoint]) -> None:
    """End the attempts that are not needed.

    One of them may have succeeded at the same time.
    """
    for task in pending:
        task.cancel()
    for outcome in await asyncio.gather(*pending, return_exceptions=True):
        if isinstance(outcome, FastConnection):
            outcome.abandon("another address answered first")
