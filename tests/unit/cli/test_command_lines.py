"""Command lines of ``celery worker`` in use: each is accepted and has its effect, or is refused with what to write.

They are those of Celery's documentation, and of Docker images, charts, Procfiles, supervisor and systemd files of
projects that run Celery. ``celery`` is replaced by ``turbo``, the app by the test's, and nothing else.
"""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.cli.conftest import Ran
from turbo.cli.main import turbo

CPUS = len(os.sched_getaffinity(0))

#: A command line, and fields of the worker's options (``beat`` is whether there is a beat beside the worker).
ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    # -- apps, with the option before and after the command, as Celery 4 had it -------------------------------
    ("celery -A proj worker", {"loglevel": logging.WARNING, "queues": ()}),
    ("celery -A proj worker -l INFO", {"loglevel": logging.INFO}),
    ("celery -A proj worker -l info", {"loglevel": logging.INFO}),
    ("celery -A proj worker --loglevel=info", {"loglevel": logging.INFO}),
    ("celery -A proj worker --loglevel info", {"loglevel": logging.INFO}),
    ("celery -A proj worker -l DEBUG", {"loglevel": logging.DEBUG}),
    ("celery -A proj worker -l warning", {"loglevel": logging.WARNING}),
    ("celery --app proj worker --loglevel INFO", {"loglevel": logging.INFO}),
    ("celery --app=proj worker", {}),
    ("celery worker -A proj -l info", {"loglevel": logging.INFO}),
    ("celery worker --app=proj --loglevel=info", {"loglevel": logging.INFO}),
    ("celery -A proj:app worker", {}),
    ("celery -A proj.app worker", {}),
    ("celery -A proj --app=proj:app worker --loglevel=info", {"loglevel": logging.INFO}),
    ("python -m celery -A proj worker -l info", {"loglevel": logging.INFO}),
    ("celery -A proj -b amqp://guest@localhost// worker", {}),
    ("celery --broker=amqp://guest@localhost// -A proj worker -l info", {}),
    ("celery -A proj --result-backend redis://localhost/0 worker", {}),
    ("celery -A proj --config=os worker", {}),
    ("celery --workdir=. -A proj worker", {}),
    ("celery -A proj -q worker", {}),
    ("celery -A proj --no-color worker -l info", {}),
    ("celery -A proj --skip-checks worker -l info", {}),
    # -- children --------------------------------------------------------------------------------------------
    ("celery -A proj worker --concurrency=10", {"concurrency": 10}),
    ("celery -A proj worker -c 1", {"concurrency": 1}),
    ("celery -A proj worker -c4 -l info", {"concurrency": 4}),
    ("celery -A proj worker --concurrency 2 --loglevel=info", {"concurrency": 2}),
    ("celery -A proj worker --concurrency=auto", {"concurrency": CPUS}),
    ("celery -A proj worker --concurrency=0", {"concurrency": CPUS}),
    ("celery -A proj worker --pool=prefork --concurrency=5", {"concurrency": 5}),
    ("celery -A proj worker -P prefork -c 3", {"concurrency": 3}),
    ("celery -A proj worker -P processes", {}),
    ("celery -A proj worker --pool=solo -l info", {"concurrency": 1}),
    ("celery -A proj worker -P solo -c 4", {"concurrency": 1}),
    ("celery -A proj worker --pool=solo --concurrency=2 --loglevel=info", {"concurrency": 1}),
    ("celery -A proj worker -P threads -c 8", {"concurrency": 1, "threads": 8}),
    ("celery -A proj worker --pool=threads --concurrency=20 -l info", {"concurrency": 1, "threads": 20}),
    ("celery -A proj worker --pool threads", {"concurrency": 1, "threads": CPUS}),
    ("celery -A proj worker --autoscale=10,3", {"concurrency": 10, "autoscale_least": 3}),
    ("celery -A proj worker --autoscale 3,10 -l info", {"concurrency": 10, "autoscale_least": 3}),
    ("celery -A proj worker --autoscale=8,2 -l INFO --pidfile=celery_worker.pid", {"concurrency": 8}),
    ("celery -A proj worker -O fair -c 4", {"concurrency": 4}),
    ("celery -A proj worker -Ofair -l INFO", {"loglevel": logging.INFO}),
    ("celery -A proj worker --pool=prefork -O fair -c 4", {"concurrency": 4}),
    ("celery -A proj worker --optimization=default", {}),
    ("celery -A proj worker --prefetch-multiplier=1", {"prefetch_multiplier": 1, "adaptive_prefetch": False}),
    ("celery -A proj worker -c 3 --max-tasks-per-child 40 --prefetch-multiplier 1", {"max_tasks_per_child": 40}),
    ("celery -A proj worker --max-tasks-per-child=1000 -c 8", {"max_tasks_per_child": 1000, "concurrency": 8}),
    ("celery -A proj worker --max-tasks-per-child=0", {"max_tasks_per_child": None}),
    ("celery -A proj worker --max-memory-per-child=200000", {"max_memory_per_child": 200000}),
    ("celery -A proj worker --disable-prefetch -c 2", {"prefetch_multiplier": 1}),
    ("celery -A proj worker --pool-start-method=fork", {}),
    # -- limits ------------------------------------------------------------------------------------------------
    ("celery -A proj worker --time-limit=300 --concurrency=8", {"time_limit": 300, "concurrency": 8}),
    ("celery -A proj worker --time-limit=300 --soft-time-limit=240", {"time_limit": 300, "soft_time_limit": 240}),
    ("celery -A proj worker --soft-time-limit 3600.5", {"soft_time_limit": 3600.5}),
    ("celery -A proj worker --time-limit 0", {"time_limit": None}),
    # -- queues ------------------------------------------------------------------------------------------------
    ("celery -A proj worker -Q celery", {"queues": ("celery",)}),
    ("celery -A proj worker -Q hipri,lopri", {"queues": ("hipri", "lopri")}),
    ("celery -A proj worker --queues=high_priority,batch_processing,default -c 2", {"concurrency": 2}),
    ("celery -A proj worker -c 1 -Q dataset,generation,mail,ops_trace --loglevel INFO", {"concurrency": 1}),
    ("celery -A proj worker -l info --queues video --hostname=video@%h", {"queues": ("video",)}),
    ("celery -A proj worker -Q a,b -X b", {"queues": ("a", "b"), "exclude_queues": ("b",)}),
    ("celery -A proj worker --exclude-queues=slow", {"exclude_queues": ("slow",)}),
    ("celery -A proj worker -I json,shlex", {}),
    ("celery -A proj worker --include=json -l info", {}),
    ("celery -A proj worker --purge -l info", {"purge": True}),
    ("celery -A proj worker --discard", {"purge": True}),
    # -- names and files ---------------------------------------------------------------------------------------
    ("celery -A proj worker -n worker1@example.com", {"hostname": "worker1@example.com"}),
    ("celery -A proj worker --hostname=worker1@example.com -l INFO", {"hostname": "worker1@example.com"}),
    ("celery -A proj worker -n web.example.com", {"hostname": "celery@web.example.com"}),
    ("celery -A proj worker --concurrency=1 --pool=prefork -n reports_worker@%h", {"concurrency": 1}),
    ("celery -A proj worker -l info --logfile=celery.log", {"logfile": "celery.log"}),
    ("celery -A proj worker -n w1@here -f %n.log -l info", {"logfile": "w1.log"}),
    ("celery -A proj worker -n w1@here --logfile=%n%I.log --pidfile=%n.pid", {"logfile": "w1%I.log"}),
    # -- events, gossip ------------------------------------------------------------------------------------------
    ("celery -A proj worker -E -l info", {"loglevel": logging.INFO}),
    ("celery -A proj worker --task-events", {}),
    ("celery -A proj worker --events --loglevel=info", {}),
    ("celery -A proj worker --without-gossip --without-mingle --without-heartbeat",
     {"heartbeat_interval": None, "mingle": False}),
    ("celery -A proj worker -l debug --without-gossip --without-mingle", {"heartbeat_interval": 2.0, "mingle": False}),
    ("celery -A proj worker -l debug --without-gossip", {"mingle": True}),
    ("celery -A proj worker --heartbeat-interval=10", {"heartbeat_interval": 10.0}),
    # -- beat beside the worker ----------------------------------------------------------------------------------
    ("celery -A proj worker -B -l info", {"beat": True}),
    ("celery -A proj worker --beat --loglevel=info", {"beat": True}),
    ("celery -A proj worker -B -s run/celerybeat-schedule -l info", {"beat": True}),
    ("celery -A proj worker --beat --schedule=schedule --loglevel=info", {"beat": True}),
    ("celery -A proj worker -l info -B --concurrency=1", {"beat": True, "concurrency": 1}),
    # -- in the background, as another user ------------------------------------------------------------------------
    ("celery -A proj worker --detach -l info --logfile=w.log --pidfile=w.pid", {"logfile": "w.log"}),
    ("celery -A proj worker -D -c 2", {"concurrency": 2}),
    ("celery -A proj worker --uid={uid} --gid={gid} --loglevel=info", {"loglevel": logging.INFO}),
    ("celery -A proj worker --umask=022 --executable=python3", {}),
    # -- of projects, with the app's name replaced -------------------------------------------------------------------
    # Superset: image, chart, documentation
    ("celery --app=proj:app worker -O fair -l INFO --concurrency=2", {"concurrency": 2, "loglevel": logging.INFO}),
    ("celery --app=proj:app worker --pool=prefork -O fair -c 4", {"concurrency": 4}),
    ("celery --app proj:app worker --pool prefork --concurrency 4 -O fair", {"concurrency": 4}),
    ("celery --app=proj:app worker --pool=prefork --max-tasks-per-child=128 -Ofair -n worker0@%h -l INFO",
     {"max_tasks_per_child": 128}),
    # paperless-ngx: image, unit file
    ("celery --app proj worker --loglevel INFO --without-mingle --without-gossip",
     {"mingle": False, "loglevel": logging.INFO}),
    # pretix: image, supervisor
    ("celery -A proj worker -l info --concurrency 1", {"concurrency": 1, "loglevel": logging.INFO}),
    ("celery -A proj worker -l info -Q default,checkout,mail,background,notifications --concurrency 2",
     {"concurrency": 2}),
    # authentik, Open edX, Weblate, Saleor, Mayan EDMS, Nomenklatura
    ("celery -A proj worker -Ofair --max-tasks-per-child=1 --autoscale 3,1 -E -B -s celerybeat-schedule "
     "-Q authentik,authentik_scheduled,authentik_events",
     {"beat": True, "max_tasks_per_child": 1, "concurrency": 3, "autoscale_least": 1}),
    ("celery --app=proj worker --loglevel=info --hostname=edx.lms.core.default.%h --max-tasks-per-child=100 "
     "--exclude-queues=edx.cms.core.default", {"max_tasks_per_child": 100}),
    ("celery --app=proj worker --loglevel=info --queues=celery --prefetch-multiplier=4 --concurrency=2 "
     "--hostname=celery@%h", {"queues": ("celery",), "prefetch_multiplier": 4}),
    ("celery --app proj:app worker -E --loglevel=INFO", {"loglevel": logging.INFO}),
    ("celery -A proj worker -Ofair -l ERROR -Q converter,sources_fast --concurrency=1 --max-memory-per-child=300000 "
     "--max-tasks-per-child=100 -n mayan-edms-worker-a.%h --without-gossip --without-heartbeat",
     {"concurrency": 1, "max_memory_per_child": 300000, "mingle": True, "heartbeat_interval": None}),
    ("celery -A proj worker --concurrency=4 --max-tasks-per-child=1 --loglevel=info --autoscale=5,1 "
     "--pidfile run/celery.pid", {"max_tasks_per_child": 1, "concurrency": 5}),
    ("celery -A proj worker -l info -Q scraper --concurrency=1 --pool=solo --max-tasks-per-child=10",
     {"max_tasks_per_child": 10, "concurrency": 1}),
    # -- settings after two dashes -----------------------------------------------------------------------------------
    ("celery -A proj worker -l info -- worker.prefetch_multiplier=1", {"prefetch_multiplier": 1}),
    ("celery -A proj worker -- worker_concurrency=7 task.time_limit=60", {"concurrency": 7, "time_limit": 60}),
]  # fmt: skip

#: A command line, and what its error says.
REFUSED: list[tuple[str, str]] = [
    ("celery -A proj worker -P gevent -c 1000", "is not supported: use -P threads -c N"),
    ("celery -A proj worker --pool=gevent --concurrency=20", "is not supported: use -P threads -c N"),
    ("celery -A proj worker --pool=eventlet --concurrency=100", "is not supported: use -P threads -c N"),
    ("celery -A proj worker -P threads --autoscale=10,2", "--autoscale is not supported with -P threads"),
    ("celery -A proj worker --pool-start-method=spawn", "children are forked"),
    ("celery -A proj worker --concurency=2", "--concurrency"),
    ("celery -A proj worker -c two", "a number or auto"),
    ("celery -A proj worker --loglevel=verbose", "'info'"),
    ("celery -A proj worker -B -s", "requires an argument"),
    ("celery -A proj worker --autoreload", "No such option"),
    ("celery -A proj worker proj.add", "proj.add"),
    ("celery -A porj worker -l info", "did you mean 'proj'?"),
    ("celery -A proj wrker -l info", "did you mean 'worker'?"),
    ("celery -A proj worker -- worker.prefetch_multiplyer=1", "did you mean 'worker_prefetch_multiplier'?"),
]


def run(line: str, module: str) -> Any:
    """Run a command line with ``turbo`` in the place of ``celery``."""
    Path("run").mkdir(exist_ok=True)
    named = line.format(uid=os.getuid(), gid=os.getgid())
    words = shlex.split(named.removeprefix("python -m "))
    words = [word.replace("proj", module) for word in words[1:]]
    return CliRunner().invoke(turbo, words, prog_name="turbo")


@pytest.fixture(autouse=True)
def in_the_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to the background is shown by the tests of workers there."""
    monkeypatch.setenv("C_FAKEFORK", "1")
    for name in ("CELERY_CONFIG_MODULE", "CELERY_SKIP_CHECKS", "NO_COLOR"):
        monkeypatch.setenv(name, "")


@pytest.mark.row("CL1", "CL4", "CL5", "CL7", "CL13", "CL14", "CL15", "CL19", "CL21")
@pytest.mark.parametrize(("line", "fields"), ACCEPTED, ids=[line for line, _ in ACCEPTED])
def test_a_command_line_has_its_effect(line: str, fields: dict[str, Any], module: str, ran: Ran) -> None:
    mask = os.umask(0o022)
    try:
        result = run(line, module)
    finally:
        os.umask(mask)
    assert result.exit_code == 0, result.output
    ((_, options),) = ran.calls
    expected = {"beat": False, **fields}
    assert {name: bool(ran.beat) if name == "beat" else getattr(options, name) for name in expected} == expected


@pytest.mark.row("CL8", "CL23")
@pytest.mark.parametrize(("line", "said"), REFUSED, ids=[line for line, _ in REFUSED])
def test_a_command_line_is_refused_with_what_to_write(line: str, said: str, module: str, ran: Ran) -> None:
    result = run(line.replace("porj", module[:-1]), module)
    assert result.exit_code in (1, 2)
    assert said.replace("proj", module) in result.output
    assert not ran.calls


def test_about_as_many_as_were_counted_in_the_wild() -> None:
    assert len({line for line, _ in (*ACCEPTED, *REFUSED)}) >= 92
