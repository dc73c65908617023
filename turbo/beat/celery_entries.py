"""Reads the last runs of the entries that Celery's beat has pickled.

Used by ``beat.run_file``, once, in the beat process. Only times are rebuilt: every other class in the pickle, such as
those of schedules and arguments, is represented by an object without content. No module that the pickle names is
imported and nothing in it is called, so that no file can run code. Pure, except that a zone is looked up by its name.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from turbo.beat.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class CeleryRuns:
    """The last runs by the entries' names.

    ``unreadable``: the names of entries whose last run is in no known form.
    """

    runs: dict[str, Run]
    unreadable: tuple[str, ...] = ()


def load(data: bytes) -> CeleryRuns:
    """Read the value under ``entries`` in Celery's schedule file. Raises ValueError."""
    try:
        entries = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # noqa: BLE001 - broken pickles raise errors of every kind
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
        raise ValueError("its entries are no dict by name")
    found = {name: _run(entry) for name, entry in entries.items()}
    return CeleryRuns(
        {name: run for name, run in found.items() if run is not None},
        tuple(name for name, run in found.items() if run is None),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """What an entry of Celery's tells about its last run."""

    last_run_at: object
    total_run_count: object


def _run(entry: object) -> Run | None:
    if not isinstance(entry, _Entry):
        return None
    when, count = entry.last_run_at, entry.total_run_count
    if not isinstance(when, datetime) or not isinstance(count, int) or count < 0:
        return None
    try:
        # Celery reads a time without a zone as UTC.
        return Run(when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC), count)
    except OverflowError:
        return None


class _Empty:
    """Represents a value of another class.

    It takes whatever a pickle does with it, and keeps nothing.
    """

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> _Empty:
        return _Empty()

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def add(self, _value: object) -> None: ...

    def append(self, _value: object) -> None: ...

    def extend(self, _values: object) -> None: ...


class _Unpickler(pickle.Unpickler):
    """Rebuilds plain values, times and the last runs of entries."""

    def find_class(self, module: str, name: str) -> Any:
        return _REBUILT.get((module, name), _Empty)


def _entry(_name: object, _task: object, last_run_at: object, total_run_count: object, *_: object) -> _Entry:
    return _Entry(last_run_at, total_run_count)


def _time(state: object, zone: object = None) -> object:
    if not isinstance(state, bytes) or not (zone is None or isinstance(zone, tzinfo)):
        return _Empty()
    # A pickled time is its bytes; the stubs know only numbers.
    pickled: Callable[..., datetime] = datetime
    return pickled(state) if zone is None else pickled(state, zone)


def _attribute(owner: object, name: object) -> object:
    """Return the function by which ZoneInfo is pickled; nothing else is looked up."""
    return _zone if owner is _zone and name == "_unpickle" else _Empty()


def _zone(key: object, *_: object) -> object:
    return ZoneInfo(key) if isinstance(key, str) else _Empty()


def _pytz_zone(key: object, offset: object = None, *_: object) -> object:
    """Return the zone of a time by pytz, which tells the offset of just this time."""
    return timezone(timedelta(seconds=offset)) if isinstance(offset, int) else _zone(key)


def _pytz_utc() -> tzinfo:
    return UTC


_REBUILT: Final[Mapping[tuple[str, str], object]] = {
    ("celery.beat", "ScheduleEntry"): _entry,
    ("datetime", "datetime"): _time,
    ("datetime", "timedelta"): timedelta,
    ("datetime", "timezone"): timezone,
    ("builtins", "getattr"): _attribute,
    ("zoneinfo", "ZoneInfo"): _zone,
    ("pytz", "_UTC"): _pytz_utc,
    ("pytz", "_p"): _pytz_zone,
}
