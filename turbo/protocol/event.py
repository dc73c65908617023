"""Builds the event messages that a worker sends to monitors.

Before it: ``control.events`` and ``control.event_sender``, which provide the fields. After it: ``amqp.mailbox``, which
publishes. Pure. The format is the one that Celery's monitors and Flower read, for events of workers and of tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turbo.protocol.content import encode
from turbo.protocol.properties import Properties, encode_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TRANSIENT = 1
#: The routing key of a message with several task events.
BATCH_KEY: Final = "task.multi"


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
    return _message(dict(event), event["hostname"], serializer)


def batch_message(events: Sequence[Mapping[str, Any]], node: str, serializer: str) -> tuple[bytes, bytes]:
    """Return content header and body of several events of ``node``. Raises ``EncodeError``."""
    return _message(events, node, serializer)


def _message(content: object, node: str, serializer: str) -> tuple[bytes, bytes]:
    body, content_type, encoding = encode(content, serializer)
    properties = Properties(
        content_type=content_type,
        content_encoding=encoding,
        headers={"hostname": node},
        delivery_mode=_TRANSIENT,
        priority=0,
    )
    return encode_header(properties, len(body)), body
