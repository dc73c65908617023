"""The options of a call: which there are, and which of them are properties of its message that AMQP has.

Between ``Task.apply_async``, ``Turbo.send_task`` and ``Task.retry``, which refuse what is no option, and
``app.sending``. Pure. What a message says of tasks that shall follow is not checked here: a producer that knows more
options must not end them.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.protocol.properties import Properties

#: Seconds (49 days) above which RabbitMQ refuses a message's time to live. Such a message lives for ever in its queue,
#: and the worker that gets it looks at its expiry anyway.
LONGEST_LIFE: Final = (2**32 - 1) / 1000
#: Properties of a message that go into it as they are given.
PROPERTIES: Final = ("correlation_id", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")

_RARE: Final = frozenset(PROPERTIES)

_KNOWN: Final = frozenset(
    {
        # when
        "countdown", "eta", "expires", "expiration",
        # where to, and how
        "queue", "exchange", "exchange_type", "routing_key", "route_name", "declare", "priority", "delivery_mode",
        "mandatory", "immediate", "connection", "producer", "publisher", "connect_timeout", "timeout",
        "confirm_timeout", "retry", "retry_policy",
        # what
        "task_id", "serializer", "compression", "headers", "shadow", "argsrepr", "kwargsrepr", "stamped_headers",
        "origin", "retries", "replaced_task_nesting", "time_limit", "soft_time_limit",
        # what comes of it
        "ignore_result", "reply_to", "link", "link_error", "chain", "chord", "group_id", "group_index", "root_id",
        "parent_id", "add_to_parent",
        *PROPERTIES,
    }
)  # fmt: skip

#: Options of Celery's that have no place here, by what to say about them.
_INSTEAD: Final[Mapping[str, str]] = {
    "content_type": "the serializer decides on it: serializer=",
    "content_encoding": "the serializer decides on it: serializer=",
    "application_headers": "give headers=",
    "router": "set task_routes",
    "result_cls": "make the handle from the id: AbortableAsyncResult(result.id)",
    "event_dispatcher": "no task-sent events are sent yet",
}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that there is not, naming it and, if it is near another, that one."""
    if _KNOWN.issuperset(options):
        return
    stamps = options.get("stamped_headers") or ()
    unknown = [name for name in options if name not in _KNOWN and name not in stamps]
    if not unknown:
        return
    said = []
    for name in unknown:
        near = difflib.get_close_matches(name, _KNOWN, 1)
        hint = _INSTEAD.get(name) or (f"did you mean {near[0]}=?" if near else None)
        said.append(f"{name}= ({hint})" if hint else f"{name}=")
    raise TypeError(f"a call has no option {', '.join(said)}")


def put_properties(options: Mapping[str, Any], properties: Properties) -> None:
    """Put the options that are properties of the message there. ``timestamp`` is a datetime, or seconds since 1970."""
    if options.keys().isdisjoint(_RARE):
        return
    for name in PROPERTIES:
        value = options.get(name)
        if value is not None:
            setattr(properties, name, _seconds(value) if isinstance(value, datetime) else value)


def milliseconds(seconds: float) -> str:
    """A time to live as AMQP has it. Raises TypeError for what is no number."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"expiration must be seconds, not {seconds!r}")
    return str(max(0, round(seconds * 1000)))


def _seconds(when: datetime) -> int:
    """A time as AMQP has it; a naive one is UTC, as py-amqp reads it."""
    return int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())
