"""Decides by a message's times whether it runs, is held, or has expired.

Pure; the time is an argument. ``master.delivery.intake`` asks on receipt and when a held message is due,
``child.intake`` before the body. It must never look at anything but the times.
"""

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
    """Decide for one message; all times aware.

    Expiry is checked before the ETA, as Celery does. No task starts before its ETA, not even by a microsecond.
    """
    if expires is not None and now >= expires:
        return Admission.EXPIRED
    if eta is not None and eta > now:
        return Admission.HOLD
    return Admission.RUN
