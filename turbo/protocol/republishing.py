"""Removes dead-letter headers from messages that are published again.

Before it: a retry, or a message that the master parks or tries again. After it: ``properties``. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Headers that RabbitMQ adds to dead-lettered messages. If sent again, RabbitMQ could detect a cycle and drop it.
DEATH_HEADERS: Final = frozenset(
    {
        "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
        "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
    }
)  # fmt: skip

#: Name prefix of the queues of Celery's delayed delivery, in which parked messages wait.
_DELAYED: Final = "celery_delayed_"


def republish_headers(headers: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a caller's own headers for a retry, without those of dead-lettering."""
    if not headers:
        return None
    return {key: value for key, value in headers.items() if key not in DEATH_HEADERS} or None


def without_delays(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers without the ``x-death`` entries of the delay queues.

    RabbitMQ before 4.0 drops a message that expires into a queue named in its ``x-death``, so a message parked twice
    would be lost. Entries of other queues stay, because applications count them.
    """
    found = dict(headers or {})
    deaths = found.get("x-death")
    if not isinstance(deaths, list):
        return found
    kept = [d for d in deaths if not (isinstance(d, dict) and str(d.get("queue", "")).startswith(_DELAYED))]
    if len(kept) == len(deaths):
        return found
    if kept:
        found["x-death"] = kept
        return found
    return {name: value for name, value in found.items() if name not in DEATH_HEADERS}
