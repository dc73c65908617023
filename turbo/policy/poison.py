"""How a message that kills its children, or whole workers, carries the count of them.

``master.outcome.poison`` and ``master.delivery.lease_copies`` write these headers, the executors read them. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.exceptions import WorkerLostError
from turbo.protocol.own_headers import REJECTED
from turbo.protocol.saferepr import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Header with the number of children and workers that died with this message.
DELIVERIES: Final = "x-turbo-deliveries"
#: Header that says how the last of them died.
REASON: Final = "x-turbo-last-death"


def deaths(headers: Mapping[str, object] | None) -> int:
    """How many children and workers died with a message, by its header; 0 for what is not a count."""
    value = (headers or {}).get(DELIVERIES)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def needs_look(headers: Mapping[str, object]) -> bool:
    """Whether a worker has written into a message's headers that it may not be fit to run."""
    return DELIVERIES in headers or REJECTED in headers


def exhausted(headers: Mapping[str, object]) -> WorkerLostError:
    """The error stored for a message that is given up."""
    last = clean(str(headers.get(REASON)), 400)
    return WorkerLostError(f"Given up after {deaths(headers)} deliveries whose child or worker died: {last}")
