"""The headers that count the children and workers killed by a message.

``master.outcome.poison`` and ``master.delivery.lease_copies`` write them, ``child.intake`` and the executors read them.
Pure. It must never decide what becomes of a message.
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
    """Return the number of children and workers that died with a message.

    0 for an invalid header.
    """
    value = (headers or {}).get(DELIVERIES)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def needs_look(headers: Mapping[str, object]) -> bool:
    """Whether a worker has marked the message as possibly unfit to run."""
    return DELIVERIES in headers or REJECTED in headers


def exhausted(headers: Mapping[str, object]) -> WorkerLostError:
    """The error stored for a message that is given up."""
    last = clean(str(headers.get(REASON)), 400)
    return WorkerLostError(f"Given up after {deaths(headers)} deliveries whose child or worker died: {last}")
