"""What becomes of a message on receipt and again before it is handed to a child: run, hold, or expired."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@unique
class Admission(IntEnum):
    """The decision."""

    RUN = 1
    HOLD = 2
    EXPIRED = 3


def admit(now: datetime, *, eta: datetime | None, expires: datetime | None) -> Admission:
    """Decide for one message; all times aware. Expiry is checked before the ETA, as Celery does.

    No task starts before its ETA, not even by a microsecond.
    """
    if expires is not None and now >= expires:
        return Admission.EXPIRED
    if eta is not None and eta > now:
        return Admission.HOLD
    return Admission.RUN
