"""Names the headers that a worker adds to its copies of messages.

Written by ``master.delivery.leases`` and ``master.delivery.parking``; read by the master that receives such a copy and
by the child that decodes it. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Identifies a copy in a lease queue for the worker that published it. Empty in a message that was delivered before and
#: is published again. It is the first header, where ``protocol.peek`` finds it at no cost for other messages.
LEASE: Final = "x-turbo-lease"
#: The task has ended and its message was to be rejected: reject it without running it.
REJECTED: Final = "x-turbo-rejected"
#: Exchange and routing key with which the message was published before it was parked.
ROUTE: Final = "x-turbo-route"


def route_of(headers: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Return exchange and routing key from :data:`ROUTE`.

    Returns None if it is missing or malformed.
    """
    value = (headers or {}).get(ROUTE)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return value[0], value[1]
    return None
