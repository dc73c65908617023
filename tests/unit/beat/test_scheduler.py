"""The scheduler over fixed clocks: what it sends, with which message, and what it remembers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app, recording
from turbo.amqp.client.connection import ConnectionGone
from turbo.app.base import Turbo
from turbo.beat import BeatLazyFunc, PersistentScheduler, ScheduleEntry, Scheduler, Service
from turbo.beat.runs import Run, decode
from turbo.exceptions import ImproperlyConfigured
from turbo.schedules import crontab, schedule

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def sent() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "schedule.turbo"


def app_with(**entries: dict[str, Any]) -> Turbo:
    return make_app(beat_schedule=entries)


def given(file: Path) -> str:
    """The name by which the user gives the file."""
    return str(file.with_suffix(""))


def due(**more: Any) -> dict[str, Any]:
    """An entry that is due now and then in an hour."""
    return {"task": "proj.tick", "schedule": 3600, "last_run_at": LONG_AGO, **more}


def test_what_is_due_is_sent_once(sent: Recorder) -> None:
    scheduler = Scheduler(app_with(tick=due(args=(1,), kwargs={"a": 2})))
    assert scheduler.tick() == pytest.approx(300)
    assert scheduler.tick() == pytest.approx(300)
    args, kwargs, _ = json.loads(sent.last.body)
    assert (args, kwargs, len(sent.sent)) == ([1], {"a": 2}, 1)
    assert sent.last.headers["task"] == "proj.tick"
    assert scheduler.schedule["tick"].total_run_count == 1


@pytest.mark.row("EC1")
def test_celerys_headers_and_the_options_of_the_entry(sent: Recorder) -> None:
    options = {"queue": "slow", "expires": 60, "headers": {"mine": 1}, "priority": 3}
    app = app_with(tick=due(options=options))
    Scheduler(app).tick()
    headers = sent.last.headers
    assert (headers["celery_beat_task"], headers["periodic_task_name"], headers["mine"]) == (True, "tick", 1)
    assert headers["expires"] is not None
    assert (sent.last.routing_key, sent.last.properties.priority) == ("slow", 3)
    assert app.conf.beat_schedule["tick"]["options"] == options


def test_a_registered_task_is_sent_with_its_own_options(sent: Recorder) -> None:
    app = app_with(tick=due())

    @app.task(name="proj.tick", queue="own", shared=False)
    def tick() -> None: ...

    Scheduler(app).tick()
    assert sent.last.routing_key == "own"


def test_an_argument_that_is_computed_at_each_run(sent: Recorder) -> None:
    Scheduler(app_with(tick=due(args=[BeatLazyFunc(lambda x: x + 1, 1)], kwargs={"b": BeatLazyFunc(list)}))).tick()
    assert json.loads(sent.last.body)[:2] == [[2], {"b": []}]


def test_a_run_that_cannot_be_sent_is_logged_and_the_next_comes(
    sent: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(app_with(tick=due(args=[object()]), tock=due(task="proj.tock")))
    scheduler.tick()
    scheduler.tick()
    assert [each.headers["task"] for each in sent.sent] == ["proj.tock"]
    assert "Couldn't apply scheduled task tick" in caplog.text


def test_while_the_broker_is_away_it_tries_again(sent: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    sent.failure = ConnectionGone("no broker")
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 3:
            sent.failure = None
        return False

    Scheduler(app_with(tick=due()), pause=pause).tick()
    assert len(sent.sent) == 1
    assert "beat: Connection error: no broker. Trying again in" in caplog.text


@pytest.mark.parametrize(("setting", "asked_to_end", "attempts"), [(3, False, 3), (0, True, 1)])
def test_it_gives_up_by_the_setting_or_when_beat_ends(
    sent: Recorder, setting: int, asked_to_end: bool, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    sent.failure = ConnectionGone("no broker")
    pauses: list[float] = []
    app = app_with(tick=due())
    app.conf.broker_connection_max_retries = setting
    Scheduler(app, pause=lambda seconds: bool(pauses.append(seconds)) or asked_to_end).tick()
    assert len(pauses) == attempts
    assert "this run of tick is left out" in caplog.text


def test_a_schedule_that_raises_does_not_stop_the_others(sent: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(schedule):
        def is_due(self, last_run_at: datetime) -> Any:
            raise ZeroDivisionError

    scheduler = Scheduler(app_with(broken=due(schedule=Broken(1)), tick=due()))
    scheduler.tick()
    assert [each.headers["task"] for each in sent.sent] == ["proj.tick"]
    assert "Cannot calculate the next run of 'broken'" in caplog.text


def test_an_entry_that_is_added_later_is_sent(sent: Recorder) -> None:
    scheduler = Scheduler(app_with())
    assert scheduler.tick() == 300
    scheduler.add(name="tick", task="proj.tick", schedule=3600, last_run_at=LONG_AGO)
    scheduler.tick()
    assert len(sent.sent) == 1


@pytest.mark.parametrize(("given", "setting", "found"), [(None, 0, 300), (None, 5, 5), (2, 5, 2)])
def test_the_longest_sleep(given: float | None, setting: float, found: float) -> None:
    assert Scheduler(make_app(beat_max_loop_interval=setting), max_interval=given).tick() == found


def test_entries_with_the_same_task_and_times_are_equal() -> None:
    one = ScheduleEntry("a", "t", schedule=10, app=make_app())
    other = ScheduleEntry("b", "t", LONG_AGO, 7, schedule=timedelta(seconds=10), app=make_app())
    assert one == other
    other.update(ScheduleEntry("c", "t", schedule=crontab(), app=make_app()))
    assert one != other
    assert (other.total_run_count, next(other).total_run_count) == (7, 8)


# -- last runs -----------------------------------------------------------------------------------------------


def test_the_run_is_in_the_file_before_it_is_sent(sent: Recorder, file: Path) -> None:
    runs: list[int] = []
    tick = due(args=[BeatLazyFunc(lambda: runs.append(decode(file.read_bytes())["tick"].total_run_count))])
    PersistentScheduler(app_with(tick=tick), schedule_filename=given(file)).tick()
    assert runs == [1]


def test_a_restarted_beat_goes_on_where_it_was(sent: Recorder, file: Path) -> None:
    app = app_with(tick={"task": "proj.tick", "schedule": 3600})
    PersistentScheduler(app, schedule_filename=given(file)).close()
    begun = decode(file.read_bytes())["tick"].last_run_at
    again = PersistentScheduler(app, schedule_filename=given(file))
    assert again.schedule["tick"].last_run_at == begun
    again.tick()
    assert sent.sent == []


def test_a_run_that_was_due_meanwhile_is_sent_at_once(sent: Recorder, file: Path) -> None:
    stored = {"last_run_at": LONG_AGO.isoformat(), "total_run_count": 4}
    file.write_text(json.dumps({"version": 1, "runs": {"tick": stored, "gone": stored}}))
    scheduler = PersistentScheduler(
        app_with(tick={"task": "proj.tick", "schedule": crontab(minute=0)}), schedule_filename=given(file)
    )
    scheduler.tick()
    assert len(sent.sent) == 1
    assert {name: run.total_run_count for name, run in decode(file.read_bytes()).items()} == {"tick": 5}


DAMAGED = (
    b"", b"\x00" * 99, b"{", b"[]", b'{"version": 2, "runs": {}}',
    b'{"version": 1, "runs": {"a": {"last_run_at": "x", "total_run_count": 1}}}',
)  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_and_set_aside(file: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(content)
    PersistentScheduler(app_with(tick=due()), schedule_filename=given(file))
    assert f"{file} is damaged" in caplog.text
    assert file.with_name("schedule.turbo.damaged").read_bytes() == content
    assert decode(file.read_bytes()).keys() == {"tick"}


def test_a_place_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="cannot be written"):
        PersistentScheduler(app_with(), schedule_filename=str(tmp_path / "no" / "schedule"))


def test_a_disk_that_fails_later_is_named_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = file.parent / "place"
    place.mkdir()
    scheduler = PersistentScheduler(app_with(), schedule_filename=str(place / "schedule"))
    (place / "schedule.turbo").unlink()
    place.rmdir()
    scheduler.sync()
    scheduler.sync()
    assert caplog.text.count("cannot be written") == 1


def test_a_last_run_in_the_future_is_named_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(app_with(tick=due()))
    scheduler.take_over({"tick": Run(datetime.now(UTC) + timedelta(days=400), 9)})
    assert scheduler.schedule["tick"].last_run_at == LONG_AGO
    assert "in the future" in caplog.text


def test_the_later_run_counts() -> None:
    scheduler = Scheduler(app_with(tick=due(total_run_count=3)))
    scheduler.take_over({"tick": Run(LONG_AGO - timedelta(days=1), 2)})
    assert scheduler.runs()["tick"] == Run(LONG_AGO, 3)
    scheduler.take_over({"tick": Run(LONG_AGO + timedelta(days=1), 4)})
    assert scheduler.runs()["tick"] == Run(LONG_AGO + timedelta(days=1), 4)


# -- the service ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("celery.beat:PersistentScheduler", PersistentScheduler),
        ("celery.beat.Scheduler", Scheduler),
        ("PersistentScheduler", PersistentScheduler),
        ("turbo.beat:Scheduler", Scheduler),
        (Scheduler, Scheduler),
    ],
)
def test_the_scheduler_class(name: Any, found: Any, file: Path) -> None:
    app = make_app(beat_scheduler=name, beat_schedule_filename=given(file))
    assert type(Service(app).scheduler) is found


@pytest.mark.parametrize("name", ["no.such:Scheduler", "turbo.beat:Nothing", "turbo.beat:BeatLazyFunc"])
def test_what_is_no_scheduler_class(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="beat_scheduler"):
        Service(make_app(beat_scheduler=name))


def test_it_ends_when_it_is_asked_to(sent: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = Service(app_with(tick=due(args=[BeatLazyFunc(lambda: service.stop())])), scheduler_cls=Scheduler)
    service.start()
    assert len(sent.sent) == 1
    assert [record.message for record in caplog.records if "beat:" in record.message] == [
        "beat: Starting...", "beat: Shutting down...",
    ]  # fmt: skip


def test_where_the_broker_has_the_last_runs_the_file_follows_within_a_second(sent: Recorder, file: Path) -> None:
    app = app_with(**{f"tick{i}": due() for i in range(3)})
    scheduler = PersistentScheduler(app, schedule_filename=given(file), claim=lambda _runs: True)
    for _ in range(3):
        scheduler.tick()
    assert sum(run.total_run_count for run in decode(file.read_bytes()).values()) == 0
    scheduler.close()
    assert sum(run.total_run_count for run in decode(file.read_bytes()).values()) == 3


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"task": "proj.tick", "schedule": "soon"}, "'soon' must be seconds"),
        ({"task": "proj.tick"}, "it needs task and schedule"),
        ({"task": "proj.tick", "schedule": 3, "arg": (1,)}, "'arg'"),
        ("proj.tick", "it needs task and schedule"),
        ({"schedule": 3.0}, "no task"),
        ({"task": "proj.tick", "schedule": -3}, "a schedule of -3 seconds is always due"),
        ({"task": "proj.tick", "schedule": 0}, "a schedule of 0 seconds is always due"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(entry: Any, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="the entry 'tick' cannot be used") as caught:
        Scheduler(app_with(tick=entry))
    assert said in str(caught.value)
