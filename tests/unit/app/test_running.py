"""Keyword arguments of ``app.Worker`` are options of the command."""

from __future__ import annotations

import pytest

from turbo import Turbo
from turbo.app.running import command_line


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


def test_worker_main_is_for_workers() -> None:
    with pytest.raises(ValueError, match="worker_main"):
        Turbo("proj", set_as_current=False).worker_main(["beat"])
