"""Command line over environment over configuration over default."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery import Celery

from turbo.app.conf.conf import Settings
from turbo.app.conf.settings import SETTINGS
from turbo.cli.beat import beat_params
from turbo.cli.global_options import global_params
from turbo.cli.worker_params import worker_params
from turbo.cli.worker_settings import log_setup, worker_options, write_into
from turbo.exceptions import ImproperlyConfigured
from turbo.policy.worker_options import WorkerOptions

NOTHING_GIVEN: dict[str, Any] = {
    "pool": None,
    "concurrency": None,
    "autoscale": None,
    "prefetch_multiplier": None,
    "prefetch": None,
    "disable_prefetch": False,
    "log_json": False,
    "task_events": False,
    "without_heartbeat": False,
    "without_mingle": False,
    "heartbeat_interval": None,
    "time_limit": None,
    "soft_time_limit": None,
    "max_tasks_per_child": None,
    "max_memory_per_child": None,
    "max_memory_per_child_hard": None,
    "async_concurrency": None,
    "processes": None,
    "shutdown_timeout": None,
    "include": (),
    "queues": (),
    "exclude_queues": (),
    "purge": False,
    "overrides": (),
}


def merged(conf: dict[str, Any] | None = None, **given: Any) -> WorkerOptions:
    settings = Settings(conf)
    values = {**NOTHING_GIVEN, **given}
    write_into(settings, values)
    return worker_options(settings, values, hostname="celery@box", level=30, logfile=None)


def test_an_app_without_settings_has_the_defaults_of_the_options() -> None:
    assert merged(concurrency=2) == WorkerOptions("celery@box", 2)


@pytest.mark.row("PL24")
def test_solo_is_one_child_whatever_the_concurrency() -> None:
    assert merged(pool="solo", concurrency=4).concurrency == 1
    assert merged({"worker_pool": "solo"}, autoscale=(8, 2)).autoscale_least is None
    assert merged({"worker_pool": "gevent"}, pool="prefork", concurrency=3).concurrency == 3


@pytest.mark.row("PL24")
def test_threads_are_divided_over_processes() -> None:
    def divided(*settings: dict[str, object], **given: object) -> tuple[int, int | None, int]:
        options = merged(*settings, **given)
        return options.concurrency, options.threads, options.places

    assert divided(pool="threads", concurrency=8) == (1, 8, 8)
    assert divided({"worker_pool": "threads", "worker_processes": 4}, concurrency=8) == (4, 2, 8)
    assert divided(pool="prefork", concurrency=8, processes=4) == (8, None, 8)
    with pytest.raises(ImproperlyConfigured, match="8 threads cannot be divided over 3 processes: make -c a multiple"):
        merged(pool="threads", concurrency=8, processes=3)
    with pytest.raises(ImproperlyConfigured, match="--autoscale is not supported with -P threads"):
        merged(pool="threads", autoscale=(8, 2))


@pytest.mark.row("PL24")
def test_a_pool_that_turbo_has_not_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^worker_pool=gevent is not supported: use -P threads -c N, or"):
        merged({"worker_pool": "gevent"})


@pytest.mark.row("CL1", "CL13", "CL14")
@pytest.mark.parametrize(
    ("option", "setting", "field"),
    [
        ("concurrency", "worker_concurrency", "concurrency"),
        ("time_limit", "task_time_limit", "time_limit"),
        ("soft_time_limit", "task_soft_time_limit", "soft_time_limit"),
        ("max_tasks_per_child", "worker_max_tasks_per_child", "max_tasks_per_child"),
        ("max_memory_per_child", "worker_max_memory_per_child", "max_memory_per_child"),
        ("max_memory_per_child_hard", "worker_max_memory_per_child_hard", "max_memory_per_child_hard"),
        ("async_concurrency", "worker_async_concurrency", "async_concurrency"),
        ("shutdown_timeout", "worker_shutdown_timeout", "shutdown_timeout"),
        ("prefetch_multiplier", "worker_prefetch_multiplier", "prefetch_multiplier"),
    ],
)
def test_the_command_line_wins_over_the_configuration(option: str, setting: str, field: str) -> None:
    assert getattr(merged({setting: 7}), field) == 7
    assert getattr(merged({setting: 7}, **{option: 3}), field) == 3


@pytest.mark.row("PL16")
def test_a_child_has_a_minute_to_start_unless_somebody_says_otherwise() -> None:
    assert merged().proc_alive_timeout == 60
    assert merged({"worker_proc_alive_timeout": 4}).proc_alive_timeout == 4


@pytest.mark.row("CL1")
def test_no_children_asked_for_means_one_per_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turbo.cli.worker_settings.usable_cpus", lambda: 6)
    assert merged().concurrency == 6
    assert merged({"worker_concurrency": "auto"}).concurrency == 6
    assert merged({"worker_concurrency": 3}, concurrency=0).concurrency == 6


@pytest.mark.row("CL10", "CL11")
@pytest.mark.parametrize(
    ("conf", "given", "adaptive", "multiplier"),
    [
        ({}, {}, True, 4),
        ({}, {"prefetch_multiplier": 2}, False, 2),
        ({"worker_prefetch_multiplier": 2}, {}, False, 2),
        ({"worker_prefetch_multiplier": 2}, {"prefetch": "adaptive"}, True, 2),
        ({"worker_prefetch_multiplier": 2, "worker_prefetch_adaptive": True}, {}, True, 2),
        ({"worker_prefetch_adaptive": True}, {"prefetch_multiplier": 1}, True, 1),
        ({"worker_prefetch_multiplier": 2, "worker_prefetch_adaptive": True}, {"prefetch": "fixed"}, False, 2),
        ({"worker_prefetch": 10, "worker_prefetch_adaptive": True}, {"concurrency": 4}, False, 3),
        ({}, {"prefetch": "fixed"}, False, 4),
        ({}, {"disable_prefetch": True}, False, 1),
        ({"worker_disable_prefetch": True}, {}, False, 1),
        ({}, {"prefetch_multiplier": 0}, False, 0),
        ({"worker_prefetch": 10}, {"concurrency": 4}, False, 3),
        ({"worker_prefetch": "64"}, {"concurrency": 4}, False, 16),
    ],
)
def test_a_window_that_somebody_chose_is_fixed(
    conf: dict[str, Any], given: dict[str, Any], adaptive: bool, multiplier: int
) -> None:
    options = merged(conf, **given)
    assert (options.adaptive_prefetch, options.prefetch_multiplier) == (adaptive, multiplier)


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({"worker_max_memory_per_child": "lots"}, "worker_max_memory_per_child"),
        ({"worker_concurrency": "many"}, "worker_concurrency"),
        ({"worker_prefetch": "some"}, "worker_prefetch"),
        ({"task_soft_time_limit": 10, "task_time_limit": 10}, "below the hard one"),
        ({"broker_native_delayed_delivery_queue_type": "stream"}, "quorum or classic"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(conf: dict[str, Any], says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        merged(conf)


@pytest.mark.row("CL22")
def test_settings_after_two_dashes() -> None:
    options = merged(overrides=("worker.concurrency=5", "task.time_limit=9"))
    assert (options.concurrency, options.time_limit) == (5, 9)
    with pytest.raises(ImproperlyConfigured, match="worker_nonsense"):
        merged(overrides=("nonsense=1",))
    with pytest.raises(ImproperlyConfigured, match="setting=value"):
        merged(overrides=("nonsense",))


@pytest.mark.row("CL22")
@pytest.mark.parametrize("name", ["worker.concurrency", "worker_concurrency", "_concurrency", "WORKER.CONCURRENCY"])
def test_a_settings_name_as_celery_reads_it(name: str) -> None:
    assert merged(overrides=(f"{name}=5",)).concurrency == 5
    theirs = Celery(set_as_current=False).loader.cmdline_config_parser([f"{name}=5"], namespace="worker")
    assert list(theirs) == ["worker_concurrency"]


@pytest.mark.row("CL22")
def test_a_settings_value_may_name_its_type() -> None:
    settings = Settings()
    given = ('task.queues=(json)[{"name": "a"}]', "worker.concurrency=(int)5", "task_acks_late=(bool)yes")
    write_into(settings, {**NOTHING_GIVEN, "overrides": given})
    assert settings["task_queues"] == [{"name": "a"}]
    assert (settings["worker_concurrency"], settings["task_acks_late"]) == (5, True)
    for wrong in ("worker.concurrency=(int)five", "worker.concurrency=(thing)5"):
        with pytest.raises(ImproperlyConfigured, match="worker.concurrency"):
            write_into(settings, {**NOTHING_GIVEN, "overrides": (wrong,)})


@pytest.mark.row("CL13")
def test_a_limit_of_zero_is_no_limit() -> None:
    limits = merged(time_limit=0, soft_time_limit=0)
    assert (limits.time_limit, limits.soft_time_limit) == (None, None)


@pytest.mark.row("CL17")
def test_included_modules_are_added() -> None:
    settings = Settings({"include": ("one",)})
    write_into(settings, {**NOTHING_GIVEN, "include": ("two", "three")})
    assert settings["include"] == ("one", "two", "three")


def test_a_setting_s_option_is_one_of_the_command() -> None:
    known = {
        name
        for param in (*worker_params(), *beat_params(), *global_params())
        for name in (*param.opts, *param.secondary_opts)
    }
    declared = {setting.cli for setting in SETTINGS.values() if setting.cli}
    assert declared <= known and {"--concurrency", "--log-json", "--broker"} <= declared


def test_what_the_command_line_says_is_in_the_configuration() -> None:
    settings = Settings({"worker_log_json": False, "task_time_limit": 5})
    write_into(settings, {**NOTHING_GIVEN, "log_json": True, "concurrency": 3, "prefetch": "fixed"})
    assert (settings["worker_log_json"], settings["worker_concurrency"], settings["worker_prefetch"]) == (
        True,
        3,
        "fixed",
    )
    assert (settings["task_time_limit"], settings.is_set("worker_disable_prefetch")) == (5, False)


def test_accepted_content_is_given_as_content_types() -> None:
    assert merged().accept_content == {"application/json"}
    assert "application/x-yaml" in merged({"accept_content": ["json", "yaml"]}).accept_content


@pytest.mark.row("CL18", "EV11")
def test_heartbeats_come_every_two_seconds_unless_somebody_says_otherwise() -> None:
    assert merged().heartbeat_interval == 2.0
    assert merged(heartbeat_interval=5).heartbeat_interval == 5.0
    assert merged(heartbeat_interval=0).heartbeat_interval == 2.0
    assert merged(heartbeat_interval=5, without_heartbeat=True).heartbeat_interval is None


@pytest.mark.row("EV1")
def test_task_events_are_a_setting() -> None:
    settings = Settings()
    write_into(settings, {**NOTHING_GIVEN, "task_events": True})
    assert settings["worker_send_task_events"] is True


@pytest.mark.row("TM12", "CF28")
def test_bounds_of_revoked_ids_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (merged().revokes_max, merged().revoke_expires) == (50_000, 10_800.0)
    monkeypatch.setenv("CELERY_WORKER_REVOKES_MAX", "7")
    monkeypatch.setenv("CELERY_WORKER_REVOKE_EXPIRES", "0.5")
    assert (merged().revokes_max, merged().revoke_expires) == (7, 0.5)
    monkeypatch.setenv("CELERY_WORKER_REVOKES_MAX", "many")
    with pytest.raises(ImproperlyConfigured, match="CELERY_WORKER_REVOKES_MAX"):
        merged()


@pytest.mark.row("CN15", "CF21")
@pytest.mark.parametrize(
    ("retry", "at_start", "found"),
    [(None, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_waiting_for_the_broker_at_start_follows_waiting_for_it_at_all(
    retry: bool | None, at_start: bool | None, found: bool
) -> None:
    given = {"broker_connection_retry": retry, "broker_connection_retry_on_startup": at_start}
    options = merged({name: value for name, value in given.items() if value is not None})
    assert options.broker_connection_retry_on_startup is found
    assert options.broker_connection_retry is (retry is not False)


@pytest.mark.row("CF21")
@pytest.mark.parametrize(("given", "found"), [({}, None), ({"broker_connection_max_retries": 100}, 100), (
    {"broker_connection_max_retries": 0}, None)])  # fmt: skip
def test_a_broker_is_given_up_only_where_that_is_asked_for(given: dict[str, Any], found: int | None) -> None:
    assert merged(given).broker_connection_max_retries == found


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [
        ("worker_eta_task_limit", 7, "eta_task_limit"),
        ("worker_soft_shutdown_timeout", 3.5, "soft_shutdown_timeout"),
        ("worker_hook_timeout", 2.0, "hook_timeout"),
        ("worker_max_message_bytes", 1000, "max_body_size"),
        ("task_max_deliveries", 9, "task_max_deliveries"),
        ("task_track_started", True, "track_started"),
        ("broker_heartbeat", 7.0, "broker_heartbeat"),
        ("broker_connection_timeout", 9.0, "broker_connection_timeout"),
        ("broker_native_delayed_delivery_queue_type", "classic", "delay_queue_type"),
        ("result_expires", 60.0, "result_expires"),
    ],
)
def test_settings_without_an_option_reach_the_worker(setting: str, value: Any, field: str) -> None:
    assert getattr(merged({setting: value}), field) == value != getattr(merged(), field)


@pytest.mark.row("CF20")
def test_settings_of_the_log_reach_it() -> None:
    settings: dict[str, Any] = {
        "worker_log_format": "a", "worker_log_datefmt": "b", "worker_task_log_format": "c",
        "worker_task_log_datefmt": "d", "worker_log_json": True, "worker_log_color": False,
        "worker_hijack_root_logger": False, "worker_redirect_stdouts_level": "ERROR",
    }  # fmt: skip
    found = log_setup(Settings(settings), logging.INFO, "file")
    assert (found.level, found.logfile, found.worker_format, found.worker_datefmt) == (logging.INFO, "file", "a", "b")
    assert (found.task_format, found.task_datefmt, found.json, found.colour) == ("c", "d", True, False)
    assert (found.hijack_root, found.redirect_level) == (False, logging.ERROR)
    assert log_setup(Settings({"worker_redirect_stdouts": False}), logging.INFO, None).redirect_level is None
    with pytest.raises(ImproperlyConfigured, match="worker_redirect_stdouts_level"):
        log_setup(Settings({"worker_redirect_stdouts_level": "LOUD"}), logging.INFO, None)
