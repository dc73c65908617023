"""Headers that a worker writes into copies of messages that it holds.

Before it: ``master.delivery.leases`` and ``master.delivery.parking``, which publish copies. After it: the master that
receives one back, and the child that decodes it. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names one copy in a lease queue to the worker that published it. Empty in a message that was delivered before and is
#: published again. It stands first in the table, where ``protocol.peek`` finds it without a look at any other message.
LEASE: Final = "x-turbo-lease"
#: The task has ended and its message was to be rejected: reject it without running it.
REJECTED: Final = "x-turbo-rejected"
#: Exchange and routing key by which the message was sent before it was parked.
ROUTE: Final = "x-turbo-route"


def route_of(headers: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Return exchange and routing key from :data:`ROUTE`; None where it is missing or malformed."""
    value = (headers or {}).get(ROUTE)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return value[0], value[1]
    return None
