"""Builds kombu's message and Celery's request from a delivery.

Runs on the master's hook thread, for ``adopted.hooks``. A request that acknowledges or rejects only sets a verb; the
outcome hooks carry it out. It must never settle a message itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.message import Message
from kombu.serialization import prepare_accept_content
from kombu.utils.imports import symbol_by_name

from turbo.adopted.request_fields import conversion_of, forget_deaths, properties_as_mapping
from turbo.policy import poison
from turbo.policy.settling import Verb
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.properties import decode_header

if TYPE_CHECKING:
    from celery import Celery

    from turbo.master.delivery.ledger import Delivery

_DEFAULT_REQUEST = "celery.worker.request:Request"


class VerbOverride:
    """The verb that a request asks for by acknowledging or rejecting.

    None leaves it to the ack table.
    """

    def __init__(self) -> None:
        self.verb: Verb | None = None

    def ack(self, *_args: Any, **_kwargs: Any) -> None:
        """The request acknowledges."""
        self.verb = Verb.ACK

    def reject(self, _logger: Any = None, _errors: Any = None, requeue: bool = False, **_kwargs: Any) -> None:
        """The request rejects."""
        self.verb = Verb.REQUEUE if requeue else Verb.REJECT


def has_own_class(task: Any) -> bool:
    """Whether the task names a request class of its own."""
    return task.Request not in (_DEFAULT_REQUEST, None)


def message_of(app: Celery, delivery: Delivery, *, packed: bool = False) -> Message:
    """Build kombu's message from a delivery.

    ``packed`` leaves a compressed body compressed.
    """
    properties, _size = decode_header(delivery.header)
    found_at = parse_deliver(delivery.deliver)
    headers = dict(properties.headers or {})
    again = poison.DELIVERIES in headers
    forget_deaths(headers)
    if packed:
        headers.pop("compression", None)
    return Message(
        body=delivery.body,
        delivery_tag=delivery.tag,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        delivery_info={
            "consumer_tag": found_at.consumer_tag,
            "delivery_tag": found_at.delivery_tag,
            "redelivered": found_at.redelivered or again,
            "exchange": found_at.exchange,
            "routing_key": found_at.routing_key,
        },
        properties=properties_as_mapping(properties),
        headers=headers,
        accept=prepare_accept_content(app.conf.accept_content),
    )


def request_of(app: Celery, message: Message, hostname: str, verb_override: VerbOverride) -> Any:
    """Build the request that Celery's worker would make, of the task's own class."""
    payload = message.payload
    if "task" not in message.headers or "args" in payload:
        body, headers, decoded, utc = conversion_of(payload)(message, payload)
    else:
        body, headers, decoded, utc = message.body, message.headers, False, app.uses_utc_timezone()
    task = app.tasks[headers["task"]]
    kind = symbol_by_name(task.Request)
    return kind(
        message,
        on_ack=verb_override.ack,
        on_reject=verb_override.reject,
        app=app,
        hostname=hostname,
        eventer=None,
        task=task,
        connection_errors=(),
        body=body,
        headers=headers,
        decoded=decoded,
        utc=utc,
    )
