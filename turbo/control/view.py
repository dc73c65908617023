"""Builds the rows that monitors show: tasks that run, wait, or wait for their ETA.

Runs in the master, for ``control.inspect_commands``. A row shows a task's arguments as sent, if they can be decoded
cheaply and safely: a small JSON body. Otherwise it shows the text that the sender wrote for them, since other formats
may run code when decoded. Many rows are built in slices, between which the loop runs. It must never change what it
reads.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import TurboError
from turbo.policy.delivery_lifecycle import State
from turbo.protocol.content import JSON, decode
from turbo.protocol.deliver import Deliver, parse_deliver
from turbo.protocol.properties import decode_header
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.pool import Pool
    from turbo.master.delivery.ledger import Delivery, Ledger
    from turbo.master.outcome.failure_documents import FailureDocuments

    #: A row of a monitor's table.
    Row = dict[str, Any]

#: The largest body, in bytes, that is decoded for a row.
_LARGEST: Final = 16 * 1024
#: Rows built before the loop runs again: about two milliseconds.
_SLICE: Final = 100


class View:
    """Reads ledger and children. Times are seconds since 1970."""

    def __init__(self, ledger: Ledger, pool: Pool, failure_documents: FailureDocuments, hostname: str) -> None:
        self._ledger = ledger
        self._pool = pool
        self._failure_documents = failure_documents
        self._hostname = hostname

    # -- which -------------------------------------------------------------------------------------------

    def running(self) -> list[tuple[Delivery, ChildProcess, int]]:
        """Return the deliveries that children run, with their record numbers."""
        return [
            (delivery, child, seq)
            for child in list(self._pool.children.values())
            for seq, delivery in (*child.assigned.items(), *child.parked.items())
            if delivery.state is State.STARTED
        ]

    def reserved(self) -> list[Delivery]:
        """Return the deliveries that wait for a child, here or in a child's ring."""
        waiting = (State.READY, State.SUSPECT, State.DISPATCHED)
        return [d for d in self._ledger if d.state in waiting or (d.state is State.HELD and not d.due)]

    def scheduled(self) -> list[Delivery]:
        """Return the deliveries that wait for their ETA."""
        return [d for d in self._ledger if d.state is State.HELD and d.due]

    # -- rows --------------------------------------------------------------------------------------------

    async def active_rows(self, *, safe: bool) -> list[Row]:
        """Return the rows of running tasks; ``safe``: arguments as text."""
        return await _sliced(self.running(), lambda item: self.row(item[0], item[1], item[2], safe=safe))

    async def reserved_rows(self) -> list[Row]:
        """Return the rows of waiting tasks."""
        return await _sliced(self.reserved(), self.row)

    async def scheduled_rows(self) -> list[Row]:
        """Return the rows of tasks that wait for their ETA, soonest first.

        With Celery's timer priority.
        """

        def entry(delivery: Delivery) -> Row | None:
            row = self.row(delivery)
            if row is None:
                return None
            eta = delivery.message.eta if delivery.message is not None else None
            return {"eta": eta.isoformat() if eta is not None else None, "priority": 6, "request": row}

        return await _sliced(sorted(self.scheduled(), key=lambda delivery: delivery.due), entry)

    def row(
        self, delivery: Delivery, child: ChildProcess | None = None, seq: int = 0, *, safe: bool = False
    ) -> Row | None:
        """Return one row; None for an unreadable message, which a child will reject."""
        message = self._failure_documents.message(delivery)
        if message is None:
            return None
        found = None if safe else self._arguments(delivery)
        args, kwargs = found or (message.argsrepr, message.kwargsrepr)
        where = _where(delivery)
        return {
            "id": message.id,
            "name": message.shadow or message.task,
            "args": args,
            "kwargs": kwargs,
            "type": message.task,
            "hostname": self._hostname,
            "time_start": _started(child, seq) if child is not None else None,
            "acknowledged": delivery.acked,
            "delivery_info": {
                "exchange": where.exchange if where else None,
                "routing_key": where.routing_key if where else None,
                "priority": message.properties.priority,
                "redelivered": where.redelivered if where else False,
            },
            "worker_pid": child.pid if child is not None else None,
        }

    def _arguments(self, delivery: Delivery) -> tuple[Any, Any] | None:
        """Return the arguments of a small JSON message; None for any other."""
        if len(delivery.body) > _LARGEST:
            return None
        try:
            properties, _size = decode_header(delivery.header)
            if properties.content_type != JSON or (properties.headers or {}).get("compression"):
                return None
            body = decode(delivery.body, JSON, properties.content_encoding, frozenset({JSON}))
        except (TableError, TurboError):
            return None
        if isinstance(body, dict):
            return body.get("args") or [], body.get("kwargs") or {}
        if isinstance(body, list) and len(body) > 1:
            return body[0], body[1]
        return None


async def _sliced(items: Iterable[Any], make: Callable[[Any], Row | None]) -> list[Row]:
    rows = []
    for count, item in enumerate(items, 1):
        row = make(item)
        if row is not None:
            rows.append(row)
        if count % _SLICE == 0:
            await asyncio.sleep(0)
    return rows


def _started(child: ChildProcess, seq: int) -> float | None:
    running = child.link.page.running()
    if running is None or running.seq != seq:
        return None  # one of several coroutines: the control page holds one task only
    return time.time() - (time.monotonic_ns() - running.started_ns) / 1e9


def _where(delivery: Delivery) -> Deliver | None:
    try:
        return parse_deliver(delivery.deliver)
    except TableError:
        return None
