"""The options of a call: which there are, and which of them are properties of its message that AMQP has.

Between ``Task.apply_async``, ``Turbo.send_task`` and ``Task.retry``, which refuse what is no option, and
``app.publish.sending``. What a signature holds is not refused when it is sent on: it may come from a producer that
knows more options, or be meant for an ``apply_async`` of the program's own. It must never look at an app.
"""

from __future__ import annotations

import difflib
import logging
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

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

#: Names that Celery's own code leaves among a signature's options, where they have no effect.
_LEFT_BEHIND: Final = frozenset({"immutable"})
#: So many names of options without effect are logged, each once.
_MOST_NAMED: Final = 100

logger = logging.getLogger("turbo.app")
_named: set[str] = set()
_held: ContextVar[frozenset[str]] = ContextVar("turbo_held_options", default=frozenset())


def held_options(options: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Return a block in which :func:`check_options` lets the names of ``options`` pass, which a signature holds.

    One that reaches it has no effect, which is logged once.
    """
    return nullcontext() if _KNOWN.issuperset(options) else _holding(frozenset(options) - _KNOWN)


@contextmanager
def _holding(names: frozenset[str]) -> Iterator[None]:
    token = _held.set(_held.get() | names)
    try:
        yield
    finally:
        _held.reset(token)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that there is not, naming it and, if it is near another, that one."""
    if _KNOWN.issuperset(options):
        return
    stamps = options.get("stamped_headers") or ()
    held = _held.get()
    unknown = []
    for name in options:
        if name in _KNOWN or name in stamps:
            continue
        if name in held:
            _say_without_effect(name)
        else:
            unknown.append(name)
    if not unknown:
        return
    said = []
    for name in unknown:
        near = difflib.get_close_matches(name, _KNOWN, 1)
        hint = _INSTEAD.get(name) or (f"did you mean {near[0]}=?" if near else None)
        said.append(f"{name}= ({hint})" if hint else f"{name}=")
    raise TypeError(f"a call has no option {', '.join(said)}")


def _say_without_effect(name: str) -> None:
    if name in _LEFT_BEHIND or name in _named or len(_named) >= _MOST_NAMED:
        return
    _named.add(name)
    logger.warning("the option %s= that a signature holds has no effect: a call has no such option", name)


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
