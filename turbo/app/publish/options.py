"""The valid options of a call, and those among them that are AMQP properties.

Used by ``Task.apply_async``, ``Turbo.send_task`` and ``Task.retry``, which refuse unknown options, and by
``app.publish.sending``. Unknown options that a signature holds are not refused: the signature may come from a producer
with more options, or its options may be meant for the program's own ``apply_async``. This module does not use an app.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from turbo.protocol.properties import Properties

#: The longest time to live in seconds that RabbitMQ accepts (49 days). A message with a longer one is sent without;
#: the worker that gets it checks its expiry anyway.
LONGEST_LIFE: Final = (2**32 - 1) / 1000
#: AMQP properties that are options of a call under the same name.
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

#: Options of Celery that turbo does not have, and the hint in the error.
_INSTEAD: Final[Mapping[str, str]] = {
    "content_type": "use serializer=, which sets it",
    "content_encoding": "use serializer=, which sets it",
    "application_headers": "use headers=",
    "router": "set task_routes",
    "result_cls": "make the handle from the id: AbortableAsyncResult(result.id)",
    "event_dispatcher": "turbo does not send task-sent events yet",
}

#: Names that Celery's code leaves in a signature's options without an effect.
_LEFT_BEHIND: Final = frozenset({"immutable"})
#: Maximum number of names of options without effect that are logged, each once.
_MOST_NAMED: Final = 100

logger = logging.getLogger("turbo.app")
_named: set[str] = set()
_held: ContextVar[frozenset[str]] = ContextVar("turbo_held_options", default=frozenset())


def held_options(options: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Return a context in which :func:`check_options` accepts a signature's names.

    These are the names in its ``options``. An unknown option among them has no effect; that is logged once per name.
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
    """Raise TypeError for unknown options.

    The error names them, with a hint or a similar option.
    """
    if _KNOWN.issuperset(options):
        return
    stamps = options.get("stamped_headers") or ()
    held = _held.get()
    unknown = []
    for name in options:
        if name in _KNOWN or name in stamps:
            continue
        if name in held:
            _warn_no_effect(name)
        else:
            unknown.append(name)
    if not unknown:
        return
    said = []
    for name in unknown:
        import difflib  # only a misspelt name needs its 0.2 MB

        near = difflib.get_close_matches(name, _KNOWN, 1)
        hint = _INSTEAD.get(name) or (f"did you mean {near[0]}=?" if near else None)
        said.append(f"{name}= ({hint})" if hint else f"{name}=")
    raise TypeError(f"a call has no option {', '.join(said)}")


def _warn_no_effect(name: str) -> None:
    if name in _LEFT_BEHIND or name in _named or len(_named) >= _MOST_NAMED:
        return
    _named.add(name)
    logger.warning("Option %s= of a signature has no effect: calls have no such option", name)


def put_properties(options: Mapping[str, Any], properties: Properties) -> None:
    """Copy the options that are AMQP properties to ``properties``.

    ``timestamp`` is a datetime or seconds since 1970.
    """
    if options.keys().isdisjoint(_RARE):
        return
    for name in PROPERTIES:
        value = options.get(name)
        if value is not None:
            setattr(properties, name, _seconds(value) if isinstance(value, datetime) else value)


def milliseconds(seconds: float) -> str:
    """Return a time to live in AMQP's form, milliseconds as text.

    Raises TypeError for a value that is not a number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"expiration must be seconds, not {seconds!r}")
    return str(max(0, round(seconds * 1000)))


def _seconds(when: datetime) -> int:
    """Return a time in AMQP's form, seconds since 1970.

    A naive time is UTC, as in py-amqp.
    """
    return int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())
