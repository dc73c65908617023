"""Every setting of Celery's: who carries it out for an adopted app, and what is said of those that nobody does."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, Task, bootsteps, signals
from celery.app.amqp import AMQP
from celery.app.control import Control
from celery.app.defaults import DEFAULTS
from celery.worker import strategy
from click import Option

from turbo.adopted.setting_support import By, celerys, support
from turbo.adopted.settings import AdoptedSettings
from turbo.app.conf.settings import SETTINGS
from turbo.exceptions import ImproperlyConfigured

#: A value for every setting without effect.
WITHOUT_EFFECT: dict[str, Any] = {
    "broker_channel_error_retry": True,
    "broker_failover_strategy": "shuffle",
    "broker_heartbeat_checkrate": 5.0,
    "worker_agent": "proj.agent:Agent",
    "worker_autoscaler": "proj.scale:Mine",
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_consumer": "proj.consumer:Mine",
    "worker_detect_quorum_queues": False,
    "worker_enable_soft_shutdown_on_idle": True,
    "worker_lost_wait": 3.0,
    "worker_pool_start_method": "spawn",
    "worker_timer": "proj.timer:Mine",
    "worker_timer_precision": 0.5,
}
#: They ask for nothing that is not so anyway.
NOTHING_ASKED: dict[str, Any] = {
    "worker_enable_prefetch_count_reduction": False,
    "worker_pool_putlocks": False,
}


def app(**settings: Any) -> Celery:
    return Celery("proj", set_as_current=False, changes=settings)


def warned(**settings: Any) -> str:
    found = AdoptedSettings(app(**settings)).check_supported()
    assert len(found) <= 1
    return found[0] if found else ""


def other_than_default(name: str) -> Any:
    kind, default = SETTINGS[name].kind, DEFAULTS[name]
    if kind == "bool":
        return not default
    return {"int": 7, "float": 7.5, "dict": {"key": 1}, "list": ["json"], "tuple": ("os",), "any": default}.get(
        kind, "x"
    )


@pytest.mark.row("CF29", "CF30")
def test_every_setting_of_celerys_has_one_answer() -> None:
    unknown = set(DEFAULTS) - set(celerys())
    assert not unknown
    for name in DEFAULTS:
        answer = support(name)
        assert isinstance(answer.by, By)
        assert bool(answer.reason) is (answer.by in (By.NOBODY, By.REFUSED)), name


@pytest.mark.row("CF16", "CF17")
@pytest.mark.parametrize("name", [name for name in celerys() if support(name).by is By.NOBODY])
def test_a_setting_without_effect_is_named_unless_it_asks_for_nothing(name: str) -> None:
    assert warned(**{name: DEFAULTS[name]}) == ""
    if name in NOTHING_ASKED:
        assert warned(**{name: NOTHING_ASKED[name]}) == ""
        return
    value = WITHOUT_EFFECT[name] if name in WITHOUT_EFFECT else other_than_default(name)
    if name == "worker_enable_remote_control":
        assert warned(**{name: False}) == ""
        return
    assert f"{name} (" in warned(**{name: value})


@pytest.mark.parametrize("name", [name for name in celerys() if support(name).by in (By.TURBO, By.CELERY)])
def test_a_setting_with_effect_is_not_named(name: str) -> None:
    assert name not in warned(**{name: other_than_default(name)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_detect_quorum_queues", None),
        ("worker_lost_wait", 0),
        ("worker_autoscaler", ""),
        ("worker_consumer", None),
    ],
)
def test_a_setting_without_effect_is_named_also_when_it_is_off(name: str, value: object) -> None:
    assert f"{name} (" in warned(**{name: value})


@pytest.mark.parametrize("off", [None, False, ""])
def test_what_is_off_by_default_may_be_off_in_other_words(off: object) -> None:
    assert warned(worker_pool_restarts=off, worker_agent=off, worker_timer=off) == ""


def test_a_way_to_log_in_that_turbo_has_not_is_refused() -> None:
    assert warned(broker_login_method="AMQPLAIN") == ""
    with pytest.raises(ImproperlyConfigured, match="broker_login_method='EXTERNAL'"):
        warned(broker_login_method="EXTERNAL")


def test_one_warning_names_everything() -> None:
    celery = app(worker_consumer="proj:Consumer", worker_agent="proj:Agent")

    class Probe(bootsteps.StartStopStep):  # type: ignore[misc]
        """A step of the user's."""

    celery.steps["consumer"].add(Probe)
    celery.user_options["worker"].add(Option(["--site"]))
    celery.user_options["events"].add(Option(["--tenant"]))

    def heard(**_: Any) -> None:
        """Never called."""

    celery.finalize()
    signals.worker_before_create_process.connect(heard)
    signals.heartbeat_sent.connect(heard)
    try:
        (text,) = AdoptedSettings(celery).check_supported()
    finally:
        signals.worker_before_create_process.disconnect(heard)
        signals.heartbeat_sent.disconnect(heard)
    for part in (
        "worker_consumer",
        "worker_agent",
        "Probe",
        "tenant",
        "worker_before_create",
        "heartbeat_sent",
    ):
        assert part in text
    assert "site" not in text


@pytest.mark.row("CF1")
def test_what_turbo_changes_the_app_sees() -> None:
    celery = app()
    settings = AdoptedSettings(celery)
    settings["worker_concurrency"] = 7
    settings["CELERYD_TASK_TIME_LIMIT"] = "2.5"
    assert celery.conf.worker_concurrency == 7
    assert settings["worker_concurrency"] == 7


@pytest.mark.row("CF1", "CF2", "DJ2")
@pytest.mark.parametrize(
    ("source", "namespace"),
    [
        ({"CELERY_WORKER_CONCURRENCY": 3, "CELERY_TASK_ACKS_LATE": True, "UNRELATED": 1}, "CELERY"),
        ({"worker_concurrency": 3, "task_acks_late": True, "somebodys_own": 1}, None),
        ({"CELERYD_CONCURRENCY": 3, "CELERY_ACKS_LATE": True}, None),
    ],
)
def test_settings_are_read_under_every_name_that_celery_accepts(source: dict[str, Any], namespace: str | None) -> None:
    celery = Celery("proj", set_as_current=False)
    celery.config_from_object(source, namespace=namespace)
    settings = AdoptedSettings(celery)
    assert (settings["worker_concurrency"], settings["task_acks_late"]) == (3, True)
    assert settings.is_set("worker_concurrency")
    assert not settings.is_set("worker_prefetch_multiplier")
    settings["worker_concurrency"] = 5
    assert celery.conf.worker_concurrency == 5


def test_what_a_receiver_changed_is_read_again() -> None:
    celery = app(worker_concurrency=1)
    settings = AdoptedSettings(celery)
    celery.conf.worker_concurrency = 4
    settings.read_again()
    assert settings["worker_concurrency"] == 4


class Collecting(Task):  # type: ignore[misc]
    """One that takes messages on by itself."""

    abstract = True
    Strategy = "tests.unit.adopted.test_settings:collecting"


class Starting(Task):  # type: ignore[misc]
    """One that goes without the name."""

    abstract = True

    def start_strategy(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


def collecting(*_: Any) -> None:
    """A strategy that is never called here."""


def task_body() -> None:
    """What no strategy lets run."""


@pytest.mark.row("HA12")
def test_a_task_with_a_strategy_of_its_own_stops_the_start() -> None:
    celery = app()
    celery.task(shared=False, name="proj.plain")(task_body)
    celery.task(shared=False, name="proj.same", Strategy=staticmethod(strategy.default))(task_body)
    celery.finalize()
    AdoptedSettings(celery).check_supported()
    celery.task(shared=False, name="proj.count", base=Collecting)(task_body)
    celery.task(shared=False, name="proj.start", base=Starting)(task_body)
    celery.task(shared=False, name="proj.lost", Strategy="no.such:strategy")(task_body)
    with pytest.raises(ImproperlyConfigured) as raised:
        AdoptedSettings(celery).check_supported()
    text = str(raised.value)
    assert "task proj.count defines Strategy (tests.unit.adopted.test_settings:coll" in text
    assert "proj.start" in text and "proj.lost" in text
    assert "proj.plain" not in text and "proj.same" not in text


def test_classes_that_an_app_puts_in_the_place_of_celerys_are_named() -> None:
    class Consuming(AMQP):  # type: ignore[misc]
        def TaskConsumer(self, *_: Any, **__: Any) -> Any:
            raise AssertionError

    class Answering(Control):  # type: ignore[misc]
        Mailbox = type("Mailbox", (Control.Mailbox,), {})

    class Mine(Celery):  # type: ignore[misc]
        amqp_cls = Consuming
        control_cls = Answering
        Worker = "proj:Worker"

    (text,) = AdoptedSettings(Mine("proj", set_as_current=False)).check_supported()
    for part in ("a Worker class", "TaskConsumer of amqp_cls", "Mailbox of control_cls"):
        assert part in text
