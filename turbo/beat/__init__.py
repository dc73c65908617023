"""Periodic tasks: schedules, and the process that sends what is due.

Names are those of ``celery.beat``.
"""

from __future__ import annotations

from turbo.beat.entry import BeatLazyFunc, ScheduleEntry
from turbo.beat.persistent import PersistentScheduler
from turbo.beat.scheduler import Scheduler, SchedulingError
from turbo.beat.service import Service

__all__ = ["BeatLazyFunc", "PersistentScheduler", "ScheduleEntry", "Scheduler", "SchedulingError", "Service"]
