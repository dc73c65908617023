"""Sends the signals ``before_task_publish`` and ``after_task_publish``.

Called by ``app.publish.sending`` in clients and children if the signal has receivers. The arguments are Celery's.
Changes that receivers make to headers, body and properties are published.
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

#: Properties that receivers get and may change, besides ``expiration``, which they get in seconds.
_PROPERTIES = ("reply_to", "delivery_mode", "priority", *PROPERTIES)


def before(
    name: str,
    to: Destination,
    headers: dict[str, Any],
    body: Any,
    properties: Properties,
    policy: Mapping[str, Any],
) -> None:
    """Send ``before_task_publish``, before the message is encoded.

    Applies the receivers' changes. ``policy`` is the retry policy of publishing.
    """
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
    """Send ``after_task_publish``."""
    signals.after_task_publish.send(
        sender=name, headers=headers, body=body, exchange=to.exchange, routing_key=to.routing_key
    )
