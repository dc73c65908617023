"""Decodes deliveries in the master: the message, its context, its request.

Runs on the master's hook thread, for ``native.hooks``: decoding may take long, and pickled content may run any code. It
must never run on the master's loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.app.conf.loading import resolve
from turbo.app.tasks.context import Context
from turbo.native.request import Message, Request
from turbo.protocol import body as bodies
from turbo.protocol.content import JSON
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.message import parse
from turbo.protocol.properties import decode_header

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.master.delivery.ledger import Delivery
    from turbo.policy.worker_options import WorkerOptions
    from turbo.protocol.message import TaskMessage

_PROPERTIES = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "priority",
    "delivery_mode",
    "expiration",
    "message_id",
    "timestamp",
)


#: The largest JSON body, in bytes, that is safe to decode in the master.
_MODERATE = 1024 * 1024


class MessageDecoder:
    """Decodes the deliveries of one worker."""

    def __init__(self, app: Turbo, options: WorkerOptions) -> None:
        self._app = app
        self._options = options

    def message(self, delivery: Delivery) -> TaskMessage:
        """Decode header and body.

        Raises the same exceptions as a child for an unreadable message.
        """
        properties, _size = decode_header(delivery.header)
        options = self._options
        content = bodies.decoded(properties, delivery.body, options.accept_content, options.max_body_size)
        return parse(properties, content, self._app.timezone)

    def is_undecodable(self, delivery: Delivery) -> bool:
        """Whether the delivery must not be decoded here: it may have killed a child.

        Uncompressed JSON of a moderate size is decoded: it cannot be what killed the child.
        """
        if not delivery.undecodable:
            return False
        properties, _size = decode_header(delivery.header)
        plain = properties.content_type == JSON and not bodies.is_packed(properties)
        return not plain or len(delivery.body) > _MODERATE

    def context(self, delivery: Delivery, found: TaskMessage) -> Context:
        """Return what the task would have as ``self.request``."""
        return Context.from_message(found, delivery.deliver, self._options.hostname)

    def request(self, delivery: Delivery) -> Request:
        """Make the request, of the task's own class if it names one.

        Raises NotRegistered for an unknown task.
        """
        found = self.message(delivery)
        task = self._app.tasks[found.task]
        kind: type[Request] = resolve(task.Request) or Request
        context = self.context(delivery, found)
        request = kind(self.delivered(delivery), app=self._app, task=task, found=found, context=context)
        request.acknowledged = delivery.acked
        return request

    def delivered(self, delivery: Delivery) -> Message:
        """Return the message as delivered, which may not be a task."""
        properties, _size = decode_header(delivery.header)
        origin = parse_deliver(delivery.deliver)
        found = {name: getattr(properties, name) for name in _PROPERTIES}
        return Message(
            body=delivery.body,
            headers=dict(properties.headers or {}),
            properties={name: value for name, value in found.items() if value is not None},
            delivery_info={
                "consumer_tag": origin.consumer_tag,
                "delivery_tag": origin.delivery_tag,
                "redelivered": origin.redelivered,
                "exchange": origin.exchange,
                "routing_key": origin.routing_key,
            },
        )
