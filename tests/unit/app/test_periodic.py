"""``add_periodic_task`` and the app's own signals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.app.recording import make_app
from turbo.schedules import crontab


def test_entries_of_signatures_tasks_and_options() -> None:
    app = make_app()

    @app.task(name="proj.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    assert app.add_periodic_task(10, add.s(1, 2), name="named", expires=5) == "named"
    assert app.add_periodic_task(crontab(minute=0), add, (3,), {"y": 4}) == "proj.add(3, y=4)"
    assert app.add_periodic_task(10, add.s(2), (1,)) == "proj.add(1, 2)"
    entries = app.conf["beat_schedule"]
    assert entries["named"] == {
        "schedule": 10, "task": "proj.add", "args": (1, 2), "kwargs": {}, "options": {"expires": 5},
    }  # fmt: skip
    assert entries["proj.add(3, y=4)"]["kwargs"] == {"y": 4}
    assert entries["proj.add(1, 2)"]["args"] == (1, 2)


def test_an_unnamed_entry_that_replaces_another_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    app.conf.load()
    call = app.task(lambda: None, name="proj.t", shared=False).s()
    app.add_periodic_task(1, call)
    app.add_periodic_task(2, call)
    assert "replaces another one" in caplog.text
    assert app.conf["beat_schedule"]["proj.t()"]["schedule"] == 2


def test_entries_wait_for_the_configuration_object() -> None:
    """It may be a module that is being imported when the task is added."""
    source: dict[str, Any] = {"beat_schedule": {"old": {"task": "a", "schedule": 1}}}
    app = make_app()
    app.add_periodic_task(1, app.task(lambda: None, name="proj.t", shared=False).s(), name="new")
    app.config_from_object(source)
    assert sorted(app.conf["beat_schedule"]) == ["new", "old"]


def test_the_signals_are_sent_once_and_a_late_receiver_is_called_too() -> None:
    app = make_app()
    heard: list[tuple[str, Any]] = []

    @app.on_after_configure.connect
    def configured(sender: Any, source: Any, **_: Any) -> None:
        heard.append(("configured", source))

    @app.on_after_finalize.connect
    def finalized(sender: Any, **_: Any) -> None:
        heard.append(("finalized", sorted(sender.tasks)[:1]))

    app.config_from_object({"task_acks_late": True})
    assert heard == []
    app.finalize()
    app.config_from_object({}, force=True)
    app.finalize()
    assert heard == [("configured", app.conf), ("finalized", ["celery.accumulate"])]

    @app.on_after_configure.connect
    def late(sender: Any, **_: Any) -> None:
        heard.append(("late", sender))

    assert heard[2:] == [("late", app)]


def test_a_receiver_may_add_entries() -> None:
    app = make_app()

    @app.on_after_configure.connect
    def add(sender: Any, **_: Any) -> None:
        sender.add_periodic_task(30, sender.tasks["proj.t"].s(), name="thirty")

    @app.task(name="proj.t", shared=False)
    def body() -> None: ...

    assert app.conf["beat_schedule"].keys() == {"thirty"}
