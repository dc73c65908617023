"""``solar``: a schedule by the sun, at a place on earth.

Made by the program, asked by ``beat.scheduler``. The library ``ephem`` computes the events; it comes with the extra
``solar`` and is imported when the first such schedule is made.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from turbo.beat.schedules import BaseSchedule, schedstate
from turbo.exceptions import ImproperlyConfigured

#: Event -> the method of ``ephem.Observer``, the sun's height over the horizon in degrees, whether its centre counts.
_EVENTS: Final = {
    "dawn_astronomical": ("next_rising", "-18", True),
    "dawn_nautical": ("next_rising", "-12", True),
    "dawn_civil": ("next_rising", "-6", True),
    "sunrise": ("next_rising", "-0:34", False),
    "solar_noon": ("next_transit", "0", False),
    "sunset": ("next_setting", "-0:34", False),
    "dusk_civil": ("next_setting", "-6", True),
    "dusk_nautical": ("next_setting", "-12", True),
    "dusk_astronomical": ("next_setting", "-18", True),
}
#: Days that an event is looked for: near the poles the sun may not rise for months.
_DAYS: Final = 366


class solar(BaseSchedule):
    """An event of the sun at a place: ``solar("sunset", 48.2, 16.4)``.

    Latitude and longitude are in degrees. Events: dawn_astronomical, dawn_nautical, dawn_civil, sunrise, solar_noon,
    sunset, dusk_civil, dusk_nautical, dusk_astronomical. Raises ValueError for an unknown event or place,
    ImproperlyConfigured without ``ephem``.
    """

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        try:
            self.ephem: Any = importlib.import_module("ephem")
        except ImportError as error:
            raise ImproperlyConfigured("solar schedules need ephem: pip install 'turbo-worker[solar]'") from error
        if event not in _EVENTS:
            raise ValueError(f"unknown solar event {event!r}; the events are {', '.join(sorted(_EVENTS))}")
        if not -90 <= lat <= 90:
            raise ValueError(f"the latitude must be between -90 and 90, not {lat}")
        if not -180 <= lon <= 180:
            raise ValueError(f"the longitude must be between -180 and 180, not {lon}")
        self.event = event
        self.lat = lat
        self.lon = lon
        self.method, horizon, self.use_center = _EVENTS[event]
        self.cal = self.ephem.Observer()
        self.cal.lat, self.cal.lon, self.cal.horizon = str(lat), str(lon), horizon
        self.cal.elev = self.cal.pressure = 0
        super().__init__(**kwargs)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the first event after ``last_run_at``.

        Negative when it has passed. If there is none within a year, return the time until the schedule is to be asked
        again.
        """
        last = self.maybe_make_aware(last_run_at).astimezone(UTC)
        found = self._next_event(self.ephem.Date(last)).datetime()
        return self._left(found.replace(tzinfo=UTC))

    def _next_event(self, start: Any) -> Any:
        sun = self.ephem.Sun()
        options = {"use_center": True} if self.use_center else {}
        for _ in range(_DAYS):
            try:
                return getattr(self.cal, self.method)(sun, start=start, **options)
            except self.ephem.CircumpolarError:
                # None on this day: look again from midnight by the sun.
                start = self.cal.next_antitransit(sun, start=start)
        return start

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether the next event has come, and the seconds until the next look."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(is_due=False, next=left)
        return schedstate(is_due=True, next=max(self.remaining_estimate(self.now()).total_seconds(), 0.0))

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, solar):
            return NotImplemented
        return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon)
