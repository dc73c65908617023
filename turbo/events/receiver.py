"""Receives the events of a cluster and passes them to a program's handlers.

Made by ``app.events``; reads by ``amqp.client.event_stream``, on a connection of its own. It must never run in a
worker.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from turbo import current
from turbo.amqp.client.event_stream import receive
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.exceptions import ContentDisallowed, DecodeError, TimeoutError
from turbo.protocol import content
from turbo.protocol.clock import LogicalClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from turbo.amqp.client.mailbox import Packet
    from turbo.events.interfaces import EventApp

logger = logging.getLogger("turbo.events")

#: How far ahead of the workers' clock the clients' is taken to be, which nobody sets.
_CLIENTS_AHEAD = -1
#: Seconds between looks at whether to stop.
_STEP = 0.5


class EventReceiver:
    """A receiver of events.

    ``handlers`` are called with the event, by its type; that of ``*`` for types without one. ``channel`` is a
    connection of the app's, whose broker is used; by default the app's broker is. ``accept`` names serializers or
    content types. Set ``should_stop`` to end a capture.
    """

    def __init__(
        self,
        channel: Any = None,
        handlers: Mapping[str, Callable[[dict[str, Any]], object]] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: EventApp | None = None,
        queue_prefix: str | None = None,
        accept: Iterable[str] | None = None,
    ) -> None:
        self.app: EventApp = app or current.current_app()
        self.channel = channel
        self.handlers: dict[str, Callable[[dict[str, Any]], object]] = dict(handlers or {})
        self.routing_key = routing_key
        self.node_id = node_id
        self.queue_prefix: str = queue_prefix or self.app.conf["event_queue_prefix"]
        self.accept = content.accept_set({self.app.conf["event_serializer"], "json"} if accept is None else accept)
        self.clock = LogicalClock()
        self.should_stop = False

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Call the handlers for each event, until ``should_stop``.

        Also ends when ``limit`` messages have come. ``wakeup`` asks the workers for a heartbeat at once. Raises
        ``turbo.exceptions.TimeoutError`` after ``timeout`` seconds without an event, OperationalError when the
        connection is lost, and what a handler raises.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[list[dict[str, Any]]]:
        """As :meth:`capture`; yield the events of each message after their handlers."""
        self.should_stop = False
        count = 0
        last = time.monotonic()
        addresses, tls = self._broker()

        def connected() -> None:
            if wakeup:
                self.wakeup_workers()

        exchange = self.app.conf["event_exchange"]
        for packet in receive(
            addresses, tls, exchange, self.queue_prefix, connected,
            routing_key=self.routing_key, node_id=self.node_id, step=_STEP,
        ):  # fmt: skip
            if packet is not None:
                last = time.monotonic()
                yield self._handled(packet)
                count += 1
            elif timeout is not None and time.monotonic() - last >= timeout:
                raise TimeoutError(f"no event has come in {timeout:g} s")
            if self.should_stop or (limit is not None and count >= limit):
                return

    def wakeup_workers(self, channel: Any = None) -> None:
        """Ask every worker for a heartbeat."""
        self.app.control.broadcast("heartbeat")

    def process(self, type: str, event: dict[str, Any]) -> None:
        """Call the handler of an event."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def event_from_message(self, body: dict[str, Any], localize: bool = True) -> tuple[str, dict[str, Any]]:
        """Return the type of an event and the event with ``local_received`` and ``clock``.

        Its ``timestamp`` is a Unix time, so ``localize`` changes nothing.
        """
        kind = str(body["type"])
        if kind == "task-sent":
            body["clock"] = self.clock.value + _CLIENTS_AHEAD
        elif "clock" in body:
            self.clock.adjust(body["clock"])
        else:
            body["clock"] = self.clock.forward()
        body["local_received"] = time.time()
        return kind, body

    def _handled(self, packet: Packet) -> list[dict[str, Any]]:
        try:
            found = content.decode(packet.body, packet.content_type, packet.content_encoding, self.accept)
        except (DecodeError, ContentDisallowed) as error:
            logger.warning("A message that is no event was skipped: %s", error)
            return []
        events = [each for each in (found if isinstance(found, list) else [found]) if _is_event(each)]
        for event in events:
            self.process(*self.event_from_message(event))
        return events

    def _broker(self) -> Any:
        publisher = getattr(self.channel, "publisher", None)
        if publisher is not None:
            return publisher.addresses, publisher.tls
        tls = self.app.conf["broker_use_ssl"]
        return parse_broker_urls(self.app.conf["broker_write_url"], tls=bool(tls)), tls_options(tls)


def _is_event(found: object) -> bool:
    return isinstance(found, dict) and "type" in found
