"""Builds the event messages that a worker sends to monitors.

Before it: ``control.events`` and ``control.event_sender``, which provide the fields. After it: ``amqp.mailbox``, which
publishes. Pure. The format is the one that Celery's monitors and Flower read, for events of workers and of tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from turbo.protocol import tagged_json
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
    """Return an event type's routing key: ``worker.online``, for one.

    Its type is ``worker-online``.
    """
    return kind.replace("-", ".")


def quoted(text: str) -> bytes:
    """Return a text as JSON."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:  # lone surrogates
        return tagged_json.dumps(text)


def members(fields: Mapping[str, Any]) -> bytes:
    """Return the members of a JSON object, without its braces. Raises ``EncodeError``."""
    return tagged_json.dumps(fields)[1:-1]


def event_message(event: Mapping[str, Any], serializer: str) -> tuple[bytes, bytes]:
    """Return content header and body of one event. Raises ``EncodeError``."""
    return _message(dict(event), event["hostname"], serializer)


def packed_message(events: Sequence[bytes], node: str, serializer: str, *, alone: bool) -> tuple[bytes, bytes]:
    """Return header and body of JSON events of ``node``: a list, or ``alone``.

    Raises ``EncodeError``.
    """
    body = events[0] if alone else b"[" + b",".join(events) + b"]"
    if serializer != "json":
        return _message(tagged_json.loads_untagged(body), node, serializer)
    return encode_header(_properties("application/json", "utf-8", node), len(body)), body


def _message(content: object, node: str, serializer: str) -> tuple[bytes, bytes]:
    body, content_type, encoding = encode(content, serializer)
    return encode_header(_properties(content_type, encoding, node), len(body)), body


def _properties(content_type: str, encoding: str, node: str) -> Properties:
    return Properties(
        content_type=content_type,
        content_encoding=encoding,
        headers={"hostname": node},
        delivery_mode=_TRANSIENT,
        priority=0,
    )
