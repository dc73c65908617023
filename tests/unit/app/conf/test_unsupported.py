"""What an app asks for that no worker of turbo's does: each is refused or named, by its name."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from tests.unit.app.recording import make_app
from turbo import Turbo, signals
from turbo.app.conf.unsupported import unsupported_features
from turbo.app.task import Task
from turbo.exceptions import ImproperlyConfigured


def test_an_app_that_asks_for_nothing_hears_nothing() -> None:
    app = make_app()
    app.task(name="t")(lambda: None)
    app.task(name="custom", base=type("Mine", (Task,), {"run": lambda self: None}))(lambda: None)
    assert unsupported_features(app) == []


@pytest.mark.row("HA12")
@pytest.mark.parametrize("attribute", ["Strategy", "start_strategy"])
def test_a_task_with_a_strategy_of_its_own_stops_the_start(attribute: str) -> None:
    class Batches(Task):
        pass

    setattr(Batches, attribute, "proj.batches:strategy")
    app = make_app()
    app.task(name="proj.count", base=Batches)(lambda: None)
    app.task(name="proj.plain")(lambda: None)
    with pytest.raises(ImproperlyConfigured, match=f"^task proj.count defines {attribute}") as raised:
        unsupported_features(app)
    assert "proj.plain" not in str(raised.value)


@pytest.mark.row("TD18", "TM18")
def test_rate_limits_are_supported() -> None:
    app = make_app(task_default_rate_limit="100/s", worker_disable_rate_limits=True)
    app.task(name="proj.slow", rate_limit="1/s")(lambda: None)
    app.task(name="proj.usual")(lambda: None)
    assert unsupported_features(app) == []
    assert app.conf.check_supported() == []
    assert {name: app.task_options()[name].rate_limit for name in ("proj.slow", "proj.usual")} == {
        "proj.slow": "1/s",
        "proj.usual": "100/s",
    }


def test_parts_and_methods_that_nobody_calls_are_named() -> None:
    class Mine(Turbo):
        control_cls: ClassVar[Any] = "proj:Control"

    class Annotated(Task):
        def annotate(self) -> None: ...

    app = Mine("mine", set_as_current=False)
    app.task(name="a", base=Annotated)(lambda: None)
    app.task(name="b", base=Annotated)(lambda: None)
    app.tasks["b"].backend = object()
    parts, annotate, backend = unsupported_features(app)
    assert parts.startswith("control_cls of test_parts")
    assert annotate.startswith("annotate of ")
    assert backend.startswith("backend of task b has no effect in a worker")


def test_entries_of_settings_that_nobody_reads_are_named() -> None:
    app = make_app(
        broker_transport_options={"confirm_publish": True, "visibility_timeout": 5},
        result_backend_transport_options={"global_keyprefix": "a", "master_name": "b"},
        task_publish_retry_policy={"max_retries": 3, "retry_errors": (OSError,)},
        broker_use_ssl={"ca_certs": "/x", "ssl_version": 5},
    )
    assert [line.partition(" has no effect")[0] for line in unsupported_features(app)] == [
        "broker_transport_options['visibility_timeout']",
        "result_backend_transport_options['master_name']",
        "task_publish_retry_policy['retry_errors']",
        "broker_use_ssl['ssl_version']",
    ]


def test_receivers_of_signals_that_nobody_sends_are_named() -> None:
    def heard(**_: Any) -> None: ...

    signals.heartbeat_sent.connect(heard)
    try:
        (line,) = unsupported_features(make_app())
    finally:
        signals.heartbeat_sent.disconnect(heard)
    assert line.startswith("receivers of heartbeat_sent are never called")


@pytest.mark.parametrize("part", ["amqp", "control", "events", "fixups", "loader", "log", "tasks"])
def test_parts_given_to_the_constructor_are_refused(part: str) -> None:
    with pytest.raises(TypeError, match=f"takes no {part}="):
        make_app(**{part: "proj:Mine"})
    make_app(**{part: None})


def test_a_base_that_is_no_task_of_turbos_is_refused() -> None:
    with pytest.raises(TypeError, match="the base of task t must be a subclass of turbo.Task"):
        make_app().task(name="t", base=object)(lambda: None)
