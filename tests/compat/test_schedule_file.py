"""turbo's beat beside the schedule file that Celery's beat has written."""

from __future__ import annotations

import logging
import shelve
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
from celery import Celery
from celery import schedules as celerys
from celery.beat import PersistentScheduler as CeleryScheduler

from turbo import Turbo
from turbo.beat import PersistentScheduler
from turbo.beat.runs import decode
from turbo.schedules import crontab

ENTRIES = {
    "hourly": {"task": "proj.tick", "schedule": 3600.0, "args": ({"day": datetime(2026, 1, 1)},)},
    "daily": {
        "task": "proj.tick",
        "schedule": celerys.crontab(hour=4, minute=0),
        "options": {"queue": kombu.Queue("slow", kombu.Exchange("slow"), routing_key="slow")},
    },
    "relative": {"task": "proj.tick", "schedule": celerys.schedule(3600, relative=True)},
}
OWN = {
    "hourly": {"task": "proj.tick", "schedule": 3600.0},
    "daily": {"task": "proj.tick", "schedule": crontab(hour=4, minute=0)},
    "new": {"task": "proj.tick", "schedule": 3600.0},
}
#: Those of this Python, which Celery uses in this order.
BACKENDS = [name for name, module in (("gnu", "_gdbm"), ("ndbm", "_dbm"), ("dumb", "dbm.dumb")) if find_spec(module)]


def scheduler_of_celery(file: Path, backend: str, **conf: Any) -> Any:
    """Celery's scheduler with its file, by one of Python's databases."""

    def opened(name: str, writeback: bool) -> Any:
        return shelve.Shelf(import_module(f"dbm.{backend}").open(name, "c"), writeback=writeback)

    kind: Any = type("WithBackend", (CeleryScheduler,), {"persistence": SimpleNamespace(open=opened)})
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.update(beat_schedule=ENTRIES, **conf)
    return kind(app=app, schedule_filename=str(file))


def celery_file(file: Path, backend: str, **conf: Any) -> dict[str, datetime]:
    """Have Celery's scheduler write its file; return the last runs in it."""
    scheduler = scheduler_of_celery(file, backend, **conf)
    for name in ENTRIES:
        entry = scheduler.schedule[name]
        entry.last_run_at -= timedelta(minutes=10)
        entry.total_run_count = 40
    found = {name: entry.last_run_at for name, entry in scheduler.schedule.items()}
    scheduler.close()
    return found


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if ".turbo" not in path.name}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"timezone": "Europe/Berlin"},
        {"enable_utc": False},
        {"enable_utc": False, "timezone": "America/New_York"},
    ],
)
def test_the_last_runs_are_taken_over_once(
    tmp_path: Path, backend: str, conf: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "celerybeat-schedule"
    last = celery_file(file, backend, **conf)
    before = content(tmp_path)
    app = Turbo("proj", beat_schedule=OWN)
    scheduler = PersistentScheduler(app, schedule_filename=str(file))
    runs = scheduler.runs()
    assert {name: (run.last_run_at, run.total_run_count) for name, run in runs.items() if name != "new"} == {
        name: (last[name], 40) for name in ("hourly", "daily")
    }
    assert datetime.now(UTC) - runs["new"].last_run_at < timedelta(minutes=5)
    assert "are taken over from Celery's schedule file" in caplog.text
    assert decode((tmp_path / "celerybeat-schedule.turbo").read_bytes()) == runs
    assert content(tmp_path) == before
    caplog.clear()
    assert PersistentScheduler(app, schedule_filename=str(file)).runs() == runs
    assert "Celery" not in caplog.text


def test_celery_runs_again_with_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "celerybeat-schedule"
    last = celery_file(file, "dumb")
    PersistentScheduler(Turbo("proj", beat_schedule=OWN), schedule_filename=str(file)).close()
    again = scheduler_of_celery(file, "dumb")
    assert {name: again.schedule[name].last_run_at for name in ENTRIES} == {name: last[name] for name in ENTRIES}
    again.close()


def spoil_other(file: Path, data: bytes) -> None:
    """Leave only a file of exactly this name."""
    for each in file.parent.iterdir():
        each.unlink()
    file.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.with_suffix(".dat").write_bytes(b"\x80\x04garbage" * 99),
        lambda file: file.with_suffix(".dir").write_bytes(b"'entries', 5\n"),
        # Of a database whose module may be missing here, and of nobody.
        lambda file: spoil_other(file, b"\x13\x57\x9a\xce" * 9),
        lambda file: spoil_other(file, b"neither"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_left(
    tmp_path: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "celerybeat-schedule"
    celery_file(file, "dumb")
    spoil(file)
    before = content(tmp_path)
    scheduler = PersistentScheduler(Turbo("proj", beat_schedule=OWN), schedule_filename=str(file))
    assert scheduler.schedule["hourly"].total_run_count == 0
    assert f"Celery's schedule file {file} cannot be read" in caplog.text
    assert "it stays as it is, and the last runs are counted from now" in caplog.text
    assert content(tmp_path) == before
