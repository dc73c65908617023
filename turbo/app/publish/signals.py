"""The two signals round the publishing of a task's message, as ``app.publish.sending`` sends them.

Runs in clients and children, where such a signal has receivers. What is sent besides are Celery's own arguments; what
receivers change in headers, body and properties travels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo import signals
from turbo.app.publish.options import PROPERTIES, milliseconds, put_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.publish.routes import Destination
    from turbo.protocol.properties import Properties

before_receivers = signals.before_task_publish.receivers
after_receivers = signals.after_task_publish.receivers

#: What of the message's properties receivers see, and may change; and ``expiration``, which is in seconds there.
_PROPERTIES = ("reply_to", "delivery_mode", "priority", *PROPERTIES)


def before(
    name: str,
    to: Destination,
    headers: dict[str, Any],
    body: Any,
    properties: Properties,
    policy: Mapping[str, Any],
) -> None:
    """The message is made, and neither encoded nor sent. ``policy`` is that of the publishing's retries."""
    found = {name: getattr(properties, name) for name in _PROPERTIES}
    found = {name: value for name, value in found.items() if value is not None}
    if properties.expiration is not None:
        found["expiration"] = int(properties.expiration) / 1000
    signals.before_task_publish.send(
        sender=name,
        body=body,
        exchange=to.exchange,
        routing_key=to.routing_key,
        headers=headers,
        properties=found,
        declare=list(to.declare),
        retry_policy=policy,
    )
    for each in _PROPERTIES:
        setattr(properties, each, found.get(each))
    put_properties(found, properties)
    life = found.get("expiration")
    properties.expiration = None if life is None else milliseconds(life)


def after(name: str, to: Destination, headers: dict[str, Any], body: Any) -> None:
    """The message is sent."""
    signals.after_task_publish.send(
        sender=name, headers=headers, body=body, exchange=to.exchange, routing_key=to.routing_key
    )
