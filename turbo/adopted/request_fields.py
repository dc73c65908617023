"""Builds what ``task.request`` holds of a message.

That is its headers and properties, under the names that Celery's pool gives them.

Runs in a child, called by ``adopted.executor`` between the decoding of a message and the tracer, and in the master for
a message that ended without its child. It must never omit a field that Celery's prefork pool sets, nor share a mutable
value between two messages.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from turbo.policy import poison
from turbo.protocol.deliver import Deliver, parse_deliver
from turbo.protocol.message import Form, identify
from turbo.protocol.own_headers import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.protocol.properties import Properties

#: The most cached places of publishing; a worker sees about one per task and queue.
_MOST: Final = 256


class RequestFields:
    """Makes the mapping for one message after another, in one process."""

    __slots__ = ("_hostname", "_places")

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        #: Parsed Delivers, by the bytes that follow the delivery tag.
        self._places: dict[bytes, Deliver] = {}

    def of(self, properties: Properties, deliver: bytes, decoded: Any) -> dict[str, Any]:  # hot: bench drain
        """Return the mapping for Celery's tracer.

        ``deliver``: the arguments of the Deliver; ``decoded``: the body. The message has passed
        ``protocol.message.parse``. Raises TableError for a Deliver that is cut short.
        """
        headers = properties.headers
        if type(decoded) is list and headers is not None and "task" in headers:
            args, kwargs, embed = decoded
            request = headers.copy()
        else:
            (args, kwargs, embed), request = _by_celery(properties, decoded)
        request.pop("compression", None)
        request.pop(LEASE, None)
        again = headers is not None and poison.DELIVERIES in headers
        if again:
            forget_deaths(request)
        place = self._places.get(deliver[deliver[0] + 9 :]) or self._place(deliver)
        request["properties"] = properties_as_mapping(properties)
        request["reply_to"] = properties.reply_to
        request["correlation_id"] = properties.correlation_id
        request["hostname"] = self._hostname
        request["delivery_info"] = {
            "exchange": place.exchange,
            "routing_key": place.routing_key,
            "priority": properties.priority,
            "redelivered": place.redelivered or again,
        }
        request["args"] = args
        request["kwargs"] = kwargs
        request["is_eager"] = False
        if embed:
            request.update(embed)
        return request

    def _place(self, deliver: bytes) -> Deliver:
        place = parse_deliver(deliver)
        if len(self._places) >= _MOST:
            self._places.clear()
        self._places[deliver[deliver[0] + 9 :]] = place
        return place


def forget_deaths(headers: dict[str, Any]) -> None:
    """Remove the count of dead children from a message's headers.

    A broker that redelivers only sets the flag, but turbo sends a copy with the count in its headers. The task, and the
    messages that it sends, must see the original headers.
    """
    headers.pop(poison.DELIVERIES, None)
    headers.pop(poison.REASON, None)


def _by_celery(properties: Properties, decoded: Any) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
    """Return body and fields of a message in an older or mixed form, as Celery does."""
    headers = properties.headers or {}
    if identify(properties, decoded) is Form.V2:
        return tuple(decoded), dict(headers)
    body, found, _, _ = conversion_of(decoded)(SimpleNamespace(headers=headers), decoded)
    return body, dict(found)


def conversion_of(payload: Any) -> Callable[..., tuple[Any, Any, Any, Any]]:
    """Return the conversion that Celery's worker uses for a body that is a mapping.

    ``args`` decides.
    """
    convert: Callable[..., tuple[Any, Any, Any, Any]] = hybrid_to_proto2 if "args" in payload else proto1_to_proto2
    return convert


def properties_as_mapping(properties: Properties) -> dict[str, Any]:  # hot: bench drain --app celery
    """Return the properties that are set, by name, as Celery's client library does."""
    found: dict[str, Any] = {}
    if properties.content_type is not None:
        found["content_type"] = properties.content_type
    if properties.content_encoding is not None:
        found["content_encoding"] = properties.content_encoding
    if properties.headers is not None:
        found["application_headers"] = properties.headers
    if properties.delivery_mode is not None:
        found["delivery_mode"] = properties.delivery_mode
    if properties.priority is not None:
        found["priority"] = properties.priority
    if properties.correlation_id is not None:
        found["correlation_id"] = properties.correlation_id
    if properties.reply_to is not None:
        found["reply_to"] = properties.reply_to
    # Headers that are like an earlier one have none of the others.
    for name in _RARE if properties.variant is None else ("expiration",):
        value = getattr(properties, name)
        if value is not None:
            found[name] = value
    return found


_RARE: Final = ("expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")
