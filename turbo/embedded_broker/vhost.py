"""A virtual host of the embedded broker: exchanges, queues, their rules.

Channels call it with decoded arguments; it raises AmqpFault where RabbitMQ would refuse. It routes published messages
to queues, and messages from queues to dead-letter exchanges. It must never write to a connection.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from turbo.embedded_broker.dead_letters import dead_letter
from turbo.embedded_broker.exchanges import DIRECT, FANOUT, HEADERS, TOPIC, TYPES, Binding, Exchange
from turbo.embedded_broker.faults import AmqpFault, access_refused, not_found, precondition_failed
from turbo.embedded_broker.queue_options import read_options
from turbo.embedded_broker.queues import Queue, Timers
from turbo.protocol.table import TableError, decode_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.embedded_broker.message import Entry, Message

logger = logging.getLogger(__name__)

_PREDECLARED = (
    ("", DIRECT, False),
    ("amq.direct", DIRECT, False),
    ("amq.fanout", FANOUT, False),
    ("amq.topic", TOPIC, False),
    ("amq.headers", HEADERS, False),
    ("amq.match", HEADERS, False),
)
#: Arguments that must be equal when a queue is declared again; others are ignored, as in RabbitMQ.
_COMPARED = (
    "x-message-ttl", "x-expires", "x-max-priority", "x-max-length", "x-max-length-bytes", "x-overflow",
    "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-single-active-consumer", "x-queue-type",
)  # fmt: skip


class VirtualHost:
    """The exchanges and queues of one virtual host."""

    def __init__(self, name: str, timers: Timers) -> None:
        self.name = name
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {
            exchange: Exchange(exchange, kind, True, False, internal, {}) for exchange, kind, internal in _PREDECLARED
        }
        self._timers = timers

    # -- exchanges ------------------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """Return the exchange, or raise 404."""
        found = self.exchanges.get(name)
        if found is None:
            raise not_found("exchange", name, self.name)
        return found

    def declare_exchange(
        self,
        name: str,
        kind: str,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Mapping[str, object],
    ) -> None:
        """Create an exchange, or raise 406 if it exists with other properties."""
        if kind not in TYPES:
            raise AmqpFault(503, f"unknown exchange type '{kind}'")
        found = self.exchanges.get(name)
        if found is None:
            if name == "" or name.startswith("amq."):
                raise access_refused(f"exchange name '{name}' contains reserved prefix 'amq.*'")
            self.exchanges[name] = Exchange(name, kind, durable, auto_delete, internal, arguments)
            return
        if name == "":
            raise access_refused("operation not permitted on the default exchange")
        for what, received, current in (
            ("type", kind, found.type),
            ("durable", durable, found.durable),
            ("auto_delete", auto_delete, found.auto_delete),
            ("internal", internal, found.internal),
            ("alternate-exchange", arguments.get("alternate-exchange"), found.alternate),
        ):
            self._require_equal("exchange", name, what, received, current)

    def delete_exchange(self, name: str, if_unused: bool) -> None:
        """Delete an exchange; do nothing if it does not exist."""
        if name == "" or name.startswith("amq."):
            raise access_refused(f"exchange name '{name}' contains reserved prefix 'amq.*'")
        found = self.exchanges.get(name)
        if found is None:
            return
        if if_unused and found.bindings:
            raise precondition_failed(f"exchange '{name}' in vhost '{self.name}' in use")
        self._remove_exchange(found)

    def bind(self, source: str, destination: Queue | Exchange, key: str, arguments: Mapping[str, object]) -> None:
        """Bind a queue or an exchange to the exchange `source`."""
        self._refuse_default_exchange(source)
        self.exchange(source).bind(Binding(destination, key, arguments))

    def unbind(self, source: str, destination: Queue | Exchange, key: str, arguments: Mapping[str, object]) -> None:
        """Remove a binding; do nothing if it does not exist."""
        self._refuse_default_exchange(source)
        exchange = self.exchange(source)
        if exchange.unbind(Binding(destination, key, arguments)):
            self._remove_if_unused(exchange)

    # -- queues ---------------------------------------------------------------------------------------

    def queue(self, name: str, connection: object = None) -> Queue:
        """Return the queue, or raise 404.

        405 if it is exclusive to another connection than `connection`.
        """
        found = self.queues.get(name)
        if found is None:
            raise not_found("queue", name, self.name)
        if connection is not None and found.owner_connection not in (None, connection):
            raise AmqpFault(405, f"cannot obtain exclusive access to locked queue '{name}' in vhost '{self.name}'")
        return found

    def declare_queue(
        self, name: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: Mapping[str, object],
        connection: object,
    ) -> Queue:  # fmt: skip
        """Create a queue, or raise 406 if it exists with other properties.

        Without a name, generate one.
        """
        if name.startswith("amq."):
            raise access_refused(f"queue name '{name}' contains reserved prefix 'amq.*'")
        if name in self.queues:
            found = self.queue(name, connection)
            for what, received, current in (
                ("durable", durable, found.durable),
                ("exclusive", exclusive, found.owner_connection is not None),
                ("auto_delete", auto_delete, found.auto_delete),
                *((key, arguments.get(key), found.arguments.get(key)) for key in _COMPARED),
            ):
                self._require_equal("queue", name, what, received, current)
            found.touch()
            return found
        name = name or f"amq.gen-{uuid4().hex[:22]}"
        made = self.queues[name] = Queue(
            name,
            durable=durable,
            auto_delete=auto_delete,
            owner_connection=connection if exclusive else None,
            arguments=arguments,
            options=read_options(name, self.name, arguments),
            owner=self,
            timers=self._timers,
        )
        return made

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue with its bindings and ready messages.

        Return the number of messages.
        """
        if queue.deleted:
            return 0
        del self.queues[queue.name]
        count = queue.ready
        for exchange in list(self.exchanges.values()):
            if exchange.forget(queue):
                self._remove_if_unused(exchange)
        queue.close()
        return count

    def consumer_gone(self, queue: Queue) -> None:
        """Delete an auto-delete queue after its last consumer was removed."""
        if queue.auto_delete and not queue.consumers:
            self.delete_queue(queue)

    def drop_owned_by(self, connection: object) -> None:
        """Delete the exclusive queues of a closed connection."""
        for queue in [queue for queue in self.queues.values() if queue.owner_connection is connection]:
            self.delete_queue(queue)

    # -- messages -------------------------------------------------------------------------------------

    def publish(self, exchange: Exchange, message: Message) -> tuple[int, bool]:
        """Route a message.

        Return the number of matching queues, and whether none refused it as full.
        """
        if exchange.name == "":
            queue = self.queues.get(message.routing_key)
            targets = [queue] if queue is not None else []
        else:
            targets = self._route(exchange, message)
        accepted = [queue.push(message) for queue in targets]
        return len(targets), all(accepted)

    def dead_letter(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Publish to the queue's dead-letter exchange, if it has one that exists."""
        options = queue.options
        if options.dead_letter_exchange is None:
            return
        exchange = self.exchanges.get(options.dead_letter_exchange)
        if exchange is None:
            return
        try:
            letter = dead_letter(
                entry.message,
                queue.name,
                reason,
                exchange.name,
                options.dead_letter_routing_key,
                datetime.now(UTC),
            )
        except TableError as error:
            logger.warning("dropping a dead letter of queue %r: cannot read its headers (%s)", queue.name, error)
            return
        if letter is not None:
            self.publish(exchange, letter)

    def queue_unused(self, queue: Queue) -> None:
        """Delete a queue whose x-expires has passed; the queue calls this."""
        self.delete_queue(queue)

    # -- inside ---------------------------------------------------------------------------------------

    def _route(self, exchange: Exchange, message: Message) -> list[Queue]:
        queues: dict[int, Queue] = {}
        seen: set[int] = set()
        pending = [exchange]
        headers = _lazy_headers(message)
        while pending:
            source = pending.pop()
            if id(source) in seen:
                continue
            seen.add(id(source))
            matched = False
            for destination in source.route(message.routing_key, headers):
                matched = True
                if isinstance(destination, Queue):
                    queues[id(destination)] = destination
                else:
                    pending.append(destination)
            if not matched and source.alternate is not None and source.alternate in self.exchanges:
                pending.append(self.exchanges[source.alternate])
        return list(queues.values())

    def _remove_if_unused(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings and exchange.name in self.exchanges:
            self._remove_exchange(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        del self.exchanges[exchange.name]
        for source in list(self.exchanges.values()):
            if source.forget(exchange):
                self._remove_if_unused(source)

    def _refuse_default_exchange(self, source: str) -> None:
        if source == "":
            raise access_refused("operation not permitted on the default exchange")

    def _require_equal(self, kind: str, name: str, what: str, received: object, current: object) -> None:
        if received != current:
            raise precondition_failed(
                f"inequivalent arg '{what}' for {kind} '{name}' in vhost '{self.name}': received "
                f"{_shown(received)} but current is {_shown(current)}"
            )


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"


def _lazy_headers(message: Message) -> Callable[[], Mapping[str, object]]:
    def headers() -> Mapping[str, object]:
        if not message.table:
            return {}
        try:
            return decode_table(message.table)[0]
        except TableError as error:
            logger.warning(
                "cannot read the headers of a message to a headers exchange (%s); treating it as having none", error
            )
            return {}

    return headers
