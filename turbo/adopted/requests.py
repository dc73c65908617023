"""A delivery as Celery's worker holds one: kombu's message and Celery's request around the same bytes.

Runs in the master's hook thread, for ``adopted.hooks``. What a request acknowledges or rejects is only noted here;
the judge carries it out.
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
    """The verb that a request asks for by acknowledging or rejecting its message; None: it leaves it to the table."""

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
    """The delivery as kombu would have made it; ``packed`` leaves a compressed body as it is, however large."""
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
    """The request that Celery's worker would have made of a message, of the task's own class if it has one."""
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
