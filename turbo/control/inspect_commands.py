"""The read-only commands, as ``inspect ping``, with Celery's reply shapes.

Run on the master's loop for ``control.service``. Each is a method that takes a request's arguments by name and returns
the reply, at once or as a coroutine. Commands that need the app are in ``control.app_commands``. They must never change
the worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from typing import TYPE_CHECKING, Any, Final

from turbo.control.registry import NO_REPLY
from turbo.log_format import printable
from turbo.protocol.hello import revoked_ids
from turbo.protocol.ids import text_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress
    from turbo.control.view import View
    from turbo.master.assembly import Parts
    from turbo.master.blueprint import Blueprint
    from turbo.policy.revoked import Revoked
    from turbo.protocol.clock import LogicalClock

logger = logging.getLogger("celery.worker.control")

#: Messages examined before the loop runs again.
_SLICE: Final = 200


class InspectCommands:
    """Answers the read-only commands of one worker."""

    def __init__(self, blueprint: Blueprint, parts: Parts, view: View, clock: LogicalClock) -> None:
        self._blueprint = blueprint
        self._options = blueprint.options
        self._parts = parts
        self._view = view
        self._clock = clock
        self._began = time.monotonic()

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the commands by name, including old names."""
        return {
            "ping": self.ping,
            "clock": self.clock,
            "hello": self.hello,
            "stats": self.stats,
            "active": self.active,
            "dump_active": self.active,
            "reserved": self.reserved,
            "dump_reserved": self.reserved,
            "scheduled": self.scheduled,
            "dump_schedule": self.scheduled,
            "revoked": self.revoked,
            "dump_revoked": self.revoked,
            "query_task": self.query_task,
            "active_queues": self.active_queues,
        }

    def ping(self, **_: Any) -> Any:
        """Reply pong if the worker is ready.

        Do not reply while it consumes nothing or the broker blocks it.
        """
        ready = self._parts.link.ready and not self._parts.outages.blocked
        return {"ok": "pong"} if ready else NO_REPLY

    def clock(self, **_: Any) -> dict[str, int]:
        """Return the logical clock."""
        return {"clock": self._clock.value}

    def hello(self, from_node: str, revoked: Any = None, **_: Any) -> dict[str, Any] | None:
        """Exchange revoked ids with another worker that starts.

        Older workers send ids with times of their own clocks, newer ones ids alone; the times are ignored.
        """
        if from_node == self._options.hostname:
            return None
        logger.info("sync with %s", printable(from_node))
        ids = revoked_ids(revoked).ids
        if ids:
            self._parts.revoking.revoke(ids)
        known = self._revoked
        known.purge(time.monotonic())
        return {"revoked": known.ids(), "clock": self._clock.forward()}

    def revoked(self, **_: Any) -> list[str]:
        """Return the ids of revoked tasks."""
        return self._revoked.ids()

    async def active(self, safe: bool = False, **_: Any) -> list[dict[str, Any]]:
        """Return the running tasks."""
        return await self._view.active_rows(safe=safe)

    async def reserved(self, **_: Any) -> list[dict[str, Any]]:
        """Return the tasks that wait for a child."""
        return await self._view.reserved_rows()

    async def scheduled(self, **_: Any) -> list[dict[str, Any]]:
        """Return the tasks that wait for their ETA."""
        return await self._view.scheduled_rows()

    async def query_task(self, ids: str | Sequence[str], **_: Any) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """Return state and row of each of these tasks that this worker holds."""
        named = text_ids(ids)
        wanted = {named} if isinstance(named, str) else set(named)
        id_of = self._parts.revoking.id_of
        view, found = self._view, {}
        looked = 0
        for state, deliveries in (("scheduled", view.scheduled()), ("reserved", view.reserved())):
            for delivery in deliveries:
                if (name := id_of(delivery)) in wanted:
                    found[name] = (state, view.row(delivery))
                looked += 1
                if looked % _SLICE == 0:
                    await asyncio.sleep(0)
        for delivery, child, seq in view.running():
            if (name := id_of(delivery)) in wanted:
                found[name] = ("active", view.row(delivery, child, seq))
        return found

    def active_queues(self, **_: Any) -> list[dict[str, Any]]:
        """Return the consumed queues and the paused ones, which say so."""
        link = self._parts.link
        consumed, paused = link.consumed, link.wanted.paused
        return [
            {**_queue(queue), **({"paused": True} if name in paused else {})}
            for name, queue in link.wanted.items()
            if name in consumed or name in paused
        ]

    def stats(self, **_: Any) -> dict[str, Any]:
        """Return the figures of this worker since its start."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        scaler = self._parts.autoscaler
        return {
            "total": self._parts.outcomes.task_counts.by_name(),
            "pid": os.getpid(),
            "clock": str(self._clock.value),
            "uptime": round(time.monotonic() - self._began),
            "pool": self._pool(),
            **({} if scaler is None else {"autoscaler": scaler.info()}),
            "broker": self._broker(),
            "prefetch_count": self._parts.link.window,
            "rusage": {name.removeprefix("ru_"): getattr(usage, name) for name in dir(usage) if name.startswith("ru_")},
        }

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _revoked(self) -> Revoked:
        return self._parts.revoking.revoked

    def _pool(self) -> dict[str, Any]:
        options = self._options
        children = sorted(self._parts.pool.children.values(), key=lambda child: child.index)
        done = [child.done for child in children]
        total, restart = sum(done), self._parts.pool_restart
        active = sum(1 for child in children if child.assigned or child.parked)
        threads = {} if options.threads is None else {"threads": options.threads * len(children)}
        return {
            "implementation": "turbo.master.children.pool:Pool",
            "max-concurrency": self._parts.resizing.size.limit * (options.threads or 1),
            **threads,
            "processes": [child.pid for child in children if child.pid],
            "max-tasks-per-child": options.max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            **({} if restart is None or not restart.state else {"restart": restart.state}),
            "timeouts": [options.soft_time_limit or 0, options.time_limit or 0],
            "writes": {
                "total": total,
                "avg": _share(total / len(done) if done else 0, total),
                "all": ", ".join(_share(count, total) for count in done),
                "raw": ", ".join(map(str, done)),
                "strategy": "fair",
                "inqueues": {"total": len(children), "active": active},
            },
        }

    def _broker(self) -> dict[str, Any]:
        """Return the broker's address as Celery does, without the password."""
        first, *others = self._blueprint.read_addresses
        return {
            "hostname": first.host,
            "userid": first.user,
            "virtual_host": first.vhost,
            "port": first.port,
            "insist": False,
            "ssl": first.tls,
            "transport": "amqp",
            "connect_timeout": self._options.broker_connection_timeout,
            "transport_options": {},
            "login_method": "PLAIN",
            "uri_prefix": None,
            "heartbeat": self._options.broker_heartbeat,
            "failover_strategy": "round-robin",
            "alternates": [_label(address) for address in others],
        }


def _label(address: BrokerAddress) -> str:
    return address.label


def _share(part: float, whole: float) -> str:
    return f"{part / whole if whole else 0:.2f}"


def _queue(queue: Queue) -> dict[str, Any]:
    """Return a queue as a mapping with kombu's keys."""
    exchange = queue.exchange
    return {
        "name": queue.name,
        "exchange": {
            "name": exchange.name,
            "type": exchange.type,
            "arguments": dict(exchange.arguments) or None,
            "durable": exchange.durable,
            "passive": False,
            "auto_delete": exchange.auto_delete,
            "delivery_mode": None,
            "no_declare": exchange.no_declare,
        },
        "routing_key": queue.routing_key,
        "queue_arguments": dict(queue.queue_arguments) or None,
        "binding_arguments": dict(queue.binding_arguments) or None,
        "consumer_arguments": dict(queue.consumer_arguments) or None,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "no_ack": queue.no_ack,
        "alias": None,
        "bindings": [
            {
                "exchange": binding.exchange.name,
                "routing_key": binding.routing_key,
                "arguments": dict(binding.arguments) or None,
            }
            for binding in queue.bindings
        ],
        "no_declare": queue.no_declare or None,
        "expires": None,
        "message_ttl": None,
        "max_length": None,
        "max_length_bytes": None,
        "max_priority": None,
    }
