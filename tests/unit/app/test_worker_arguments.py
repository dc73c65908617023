"""Keyword arguments of Celery's ``Worker`` are options, settings, or refused with what to use instead."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from turbo.app.worker_arguments import command_line
from turbo.exceptions import ImproperlyConfigured


def test_arguments_of_celerys_worker_are_options() -> None:
    given = {
        "hostname": "w1@here", "concurrency": 2, "loglevel": "INFO", "queues": ["a", "b"], "include": "one,two",
        "time_limit": 3.5, "task_soft_time_limit": 2, "pool_cls": "prefork", "quiet": True, "purge": False,
        "logfile": None, "autoscale": (4, 1), "without_mingle": True,
    }  # fmt: skip
    assert command_line(given) == [
        "--quiet", "worker", "--hostname", "w1@here", "--concurrency", "2", "--loglevel", "INFO", "--queues", "a,b",
        "--include", "one,two", "--time-limit", "3.5", "--soft-time-limit", "2", "--pool", "prefork",
        "--autoscale", "4,1", "--without-mingle",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loglevel": logging.DEBUG}, ["--loglevel", "DEBUG"]),
        ({"O": "fair"}, ["--optimization", "fair"]),
        ({"optimization": "fair"}, ["--optimization", "fair"]),
        ({"statedb": "state"}, ["--statedb", "state"]),
        ({"pidfile": "w.pid"}, ["--pidfile", "w.pid"]),
        ({"beat": True, "scheduler_cls": "S"}, ["--beat", "--scheduler", "S"]),
        ({"schedule_filename": "s"}, ["--schedule", "s"]),
        ({"autoscale": "8,2"}, ["--autoscale", "8,2"]),
        ({"autoscale": 8}, ["--autoscale", "8"]),
        ({"exclude_queues": ("a",)}, ["--exclude-queues", "a"]),
        ({"max_tasks_per_child": 0}, ["--max-tasks-per-child", "0"]),
        ({"prefetch_multiplier": 1}, ["--prefetch-multiplier", "1"]),
        ({"purge": True, "without_gossip": True}, ["--purge", "--without-gossip"]),
        ({"pool": logging.Handler}, ["--pool", "logging:Handler"]),
        ({"heartbeat_interval": 3, "without_heartbeat": False}, ["--heartbeat-interval", "3"]),
    ],
)  # fmt: skip
def test_an_option(given: dict[str, Any], words: list[str]) -> None:
    assert command_line(given) == ["worker", *words]


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"task_events": True}, "worker_send_task_events=(json)true"),
        ({"task_events": False}, "worker_send_task_events=(json)false"),
        ({"redirect_stdouts": False}, "worker_redirect_stdouts=(json)false"),
        ({"redirect_stdouts_level": logging.ERROR}, 'worker_redirect_stdouts_level=(json)"ERROR"'),
        ({"disable_rate_limits": True}, "worker_disable_rate_limits=(json)true"),
        ({"consumer_cls": "mod:Consumer"}, 'worker_consumer=(json)"mod:Consumer"'),
    ],
)
def test_a_setting(given: dict[str, Any], setting: str) -> None:
    """False is a value here: it overrides the app's configuration, as in Celery."""
    assert command_line(given) == ["worker", "--", setting]


@pytest.mark.parametrize("name", ["ready_callback", "use_eventloop"])
def test_what_turbos_worker_cannot_take_is_refused_by_name(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        command_line({name: print})
    assert command_line({name: None}) == ["worker"]
