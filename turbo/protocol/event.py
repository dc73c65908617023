"""Builds the event messages that a worker sends to monitors.

Before it: ``control.events``, which provides the fields. After it: ``amqp.mailbox``, which publishes. Pure. The format
is the one that Celery's monitors and Flower read, for events of workers and of tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.protocol.content import encode
from turbo.protocol.properties import Properties, encode_header

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRANSIENT = 1


def build_event(
    kind: str, *, node: str, pid: int, clock: int, now: float, utcoffset: float, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one event.

    ``now`` is in seconds since 1970, ``utcoffset`` in hours west of Greenwich, as monitors expect it.
    """
    return {
        "hostname": node,
        "utcoffset": utcoffset,
        "pid": pid,
        "clock": clock,
        **fields,
        "timestamp": now,
        "type": kind,
    }


def routing_key(kind: str) -> str:
    """Return the routing key of an event type: ``worker.online`` for ``worker-online``."""
    return kind.replace("-", ".")


def event_message(event: Mapping[str, Any], serializer: str) -> tuple[bytes, bytes]:
    """Return content header and body of one event. Raises ``EncodeError``."""
    body, content_type, encoding = encode(dict(event), serializer)
    properties = Properties(
        content_type=content_type,
        content_encoding=encoding,
        headers={"hostname": event["hostname"]},
        delivery_mode=_TRANSIENT,
        priority=0,
    )
    return encode_header(properties, len(body)), body
