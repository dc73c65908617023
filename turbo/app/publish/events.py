"""Sends events from programs: task-sent, and those of their own.

Called by ``app.publish.sending`` after a call is sent, and by ``Task.send_event``. Runs in clients and children. In a
worker's child the master sends the event, beside its own; elsewhere the app's publisher does. It must never make a call
fail that was sent: a task-sent event that cannot be published is logged.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from turbo import current
from turbo.amqp.topology import Exchange
from turbo.exceptions import TurboError
from turbo.protocol.clock import LogicalClock
from turbo.protocol.event import build_event, event_message, routing_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.interfaces import AppLike
    from turbo.app.publish.publishing import Publishing
    from turbo.app.publish.routes import Destination
    from turbo.policy.publish_retry import PublishRetry

logger = logging.getLogger("turbo.app.publish.events")


class Events:
    """The events that one app sends from this process."""

    def __init__(self, app: AppLike, publishing: Publishing) -> None:
        self._app = app
        self._publishing = publishing
        self._clock = LogicalClock()

    def send(self, kind: str, fields: Mapping[str, Any], retry: PublishRetry) -> None:
        """Send one event.

        Raises EncodeError; OperationalError when it could not be published.
        """
        sink = current.get_event_sink()
        now = time.time()
        if sink is not None:
            sink({"pid": os.getpid(), **fields, "timestamp": now, "type": kind})
            return
        conf = self._app.conf
        event = build_event(
            kind,
            node=self._publishing.origin(),
            pid=os.getpid(),
            clock=self._clock.forward(),
            now=now,
            utcoffset=-time.localtime().tm_gmtoff / 3600,
            fields=fields,
        )
        header, body = event_message(event, conf["event_serializer"])
        exchange = Exchange(conf["event_exchange"], "topic")
        self._publishing.of_thread().publish(
            exchange.name, routing_key(kind), header, body, declare=(exchange,), retry=retry
        )

    def sent(
        self,
        name: str,
        headers: Mapping[str, Any],
        to: Destination,
        options: Mapping[str, Any],
        retry: PublishRetry,
    ) -> None:
        """Send task-sent for a call that was sent to the broker."""
        fields = {
            "uuid": headers["id"],
            "root_id": headers["root_id"],
            "parent_id": headers["parent_id"],
            "name": name,
            "args": headers["argsrepr"],
            "kwargs": headers["kwargsrepr"],
            "retries": headers["retries"],
            "eta": headers["eta"],
            "expires": headers["expires"],
            "queue": getattr(options.get("queue"), "name", None),
            "exchange": to.exchange,
            "routing_key": to.routing_key,
        }
        try:
            self.send("task-sent", fields, retry)
        except TurboError as error:
            logger.warning("Task %s[%s] is sent; its task-sent event could not be: %s", name, headers["id"], error)
