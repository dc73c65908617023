"""``app.control``: remote control of workers, turbo's and Celery's alike.

Runs in clients, and in children whose task uses it. Requests go to every worker of the broker unless some are named.
Replies are collected until the timeout, since the number of workers is unknown. It must never interpret a command: the
worker decides what it means.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from turbo.amqp.client.mailbox import Mailbox, Packet
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.app.inspecting import Inspect
from turbo.app.interfaces import AppLike
from turbo.protocol import content
from turbo.protocol.ids import text_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.amqp.topology import Queue
    from turbo.app.publish.sending import Sender


class ControllingApp(AppLike, Protocol):
    """The part of an app that remote control needs."""

    sending: Sender

    def worker_queues(self) -> list[Queue]:
        """Return the queues that a worker of this app consumes from."""


class Control:
    """Sends commands to workers.

    Every method takes the keywords of :meth:`broadcast` besides its own arguments.
    """

    def __init__(self, app: ControllingApp) -> None:
        self.app = app

    def broadcast(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callable[[Any], object] | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **more: Any,
    ) -> list[dict[str, Any]] | None:
        """Send a command to all workers, or those in ``destination`` or ``pattern``.

        ``pattern`` is compared with their names (``matcher`` is glob or pcre).
        With ``reply``, return one mapping from node to reply for each that answers within ``timeout`` seconds,
        ``limit`` at most (by default as many as are named), and call ``callback`` with each. Without, None at once.
        ``more`` are arguments too. Requests are written by ``task_serializer``, replies read if ``accept_content``
        allows theirs, as workers do it. Raises OperationalError, ContentDisallowed, ValueError for a destination that
        is no list.
        """
        if destination is not None and not isinstance(destination, (list, tuple)):
            raise ValueError(f"destination must be a list/tuple not {type(destination)}")
        self._refuse(connection)
        key, ticket = (str(uuid4()), str(uuid4())) if reply else (None, None)
        mailbox = self._mailbox()
        request: dict[str, Any] = {
            "method": command,
            "arguments": {**(arguments or {}), **more},
            "destination": destination,
            "pattern": pattern if pattern and matcher else None,
            "matcher": matcher if pattern and matcher else None,
        }
        if reply:
            request.update(ticket=ticket, reply_to={"exchange": mailbox.replies, "routing_key": key})
        limit = (len(destination) or None) if limit is None and destination else limit
        accepted = content.accept_set(self.app.conf["accept_content"])
        replies = []
        # Close it here: a stored exception must not keep the connection open.
        with closing(mailbox.ask(self._packed(request, timeout), key, timeout or 1.0, limit)) as packets:
            for packet in packets:
                if packet.headers.get("ticket") != ticket:
                    continue
                found = content.decode(packet.body, packet.content_type, packet.content_encoding, accepted)
                if callback is not None:
                    callback(found)
                replies.append(found)
        return replies if reply else None

    def _packed(self, request: dict[str, Any], timeout: float | None) -> Packet:
        body, content_type, encoding = content.encode(request, self.app.conf["task_serializer"])
        # Round up to whole seconds: a worker drops a request that has expired.
        headers = {"clock": 0, "expires": math.ceil(time.time() + timeout) if timeout else 0}
        return Packet(body, content_type, encoding, headers)

    def _refuse(self, connection: Any) -> None:
        if connection is not None and not getattr(connection, "is_pooled", False):
            raise TypeError("remote control goes to the app's own broker: connection= takes one of app.pool alone")

    def _mailbox(self) -> Mailbox:
        conf = self.app.conf
        return Mailbox(
            parse_broker_urls(conf["broker_write_url"], tls=bool(conf["broker_use_ssl"])),
            tls_options(conf["broker_use_ssl"]),
            conf["control_exchange"],
        )

    @property
    def inspect(self) -> Callable[..., Inspect]:
        """Return ``app.control.inspect(…)``, the read-only commands."""

        def inspect(*args: Any, **kwargs: Any) -> Inspect:
            return Inspect(self.broadcast, *args, **kwargs)

        return inspect

    # -- commands --------------------------------------------------------------------------------------------

    def revoke(
        self,
        task_id: Any,
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str | None = "SIGTERM",
        **options: Any,
    ) -> Any:
        """Prevent tasks from starting; ``terminate`` ends those that run, with ``signal``."""
        arguments = {"task_id": text_ids(task_id), "terminate": terminate, "signal": signal}
        return self.broadcast("revoke", arguments, destination, **options)

    def terminate(
        self, task_id: Any, destination: Sequence[str] | None = None, signal: str = "SIGTERM", **options: Any
    ) -> Any:
        """Prevent a task from starting, and end it if it runs."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any:
        """:meth:`revoke` for the tasks with these stamps."""
        arguments = {"headers": headers, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def ping(self, destination: Sequence[str] | None = None, timeout: float = 1.0, **options: Any) -> Any:
        """Ping the workers; return one ``{node: {"ok": "pong"}}`` for each."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **options)

    def rate_limit(
        self, task_name: str, rate_limit: Any, destination: Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Set how often a task may start: ``"10/s"``, ``"100/m"``, or per second.

        0 lifts the limit.
        """
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Set a task's limits, in seconds, for runs that begin from then on."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **options)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: dict[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        **more: Any,
    ) -> Any:
        """Have workers consume from another queue."""
        arguments = {
            "queue": queue, "exchange": exchange, "exchange_type": exchange_type, "routing_key": routing_key,
            **(options or {}),
        }  # fmt: skip
        return self.broadcast("add_consumer", arguments, destination, **more)

    def cancel_consumer(self, queue: str, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers no longer consume from a queue."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **options)

    def pause(self, queue: str, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers start no tasks of a queue until it is resumed.

        Celery's workers have no such command.
        """
        return self.broadcast("pause", {"queue": queue}, destination, **options)

    def resume(self, queue: str, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers consume from a paused queue again."""
        return self.broadcast("resume", {"queue": queue}, destination, **options)

    def enable_events(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers send events."""
        return self.broadcast("enable_events", {}, destination, **options)

    def disable_events(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers send no events."""
        return self.broadcast("disable_events", {}, destination, **options)

    def heartbeat(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers send a heartbeat now."""
        return self.broadcast("heartbeat", {}, destination, **options)

    def pool_grow(self, n: int = 1, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers add ``n`` children."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(self, n: int = 1, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers remove ``n`` children."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Have workers import their code anew and replace their children.

        They must have ``worker_pool_restarts``. ``modules`` are imported besides those of the app.
        """
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **options)

    def autoscale(self, max: int, min: int, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Change the limits of autoscaled workers."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def purge(self, connection: Any = None) -> int:
        """Delete every message that waits in the configured queues; return their number."""
        self._refuse(connection)
        queues = self.app.worker_queues()
        return self.app.sending.publishing.client().purge(queues)

    discard_all = purge

    def shutdown(self, destination: Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers finish their running tasks and exit."""
        return self.broadcast("shutdown", {}, destination, **options)
