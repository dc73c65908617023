"""What becomes of a message on receipt and again before it is handed to a child: run, hold, or expired."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum, unique


@unique
class Admission(IntEnum):
    """The decision."""

    RUN = 1
    HOLD = 2
    EXPIRED = 3


#: An ETA nearer than this is now: waking up for it would cost more than it delays. Never early by more.
_SLACK = timedelta(milliseconds=1)


def admit(now: datetime, *, eta: datetime | None, expires: datetime | None) -> Admission:
    """Decide for one message; all times aware. Expiry is checked before the ETA, as Celery does."""
    if expires is not None and now >= expires:
        return Admission.EXPIRED
    if eta is not None and eta - now > _SLACK:
        return Admission.HOLD
    return Admission.RUN
