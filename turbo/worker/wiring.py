"""Builds and runs a worker from an app and its options; returns its exit code.

Runs in the process that becomes the master, before any loop, thread or socket exists: the spawner is forked first, so
that children inherit none of them. After the fork it imports ``worker.master_process``, which runs the master.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import setproctitle

from turbo import failpoint
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.backends.url import store_kind
from turbo.child.main import child_main
from turbo.child.options import ChildOptions
from turbo.control.options import control_options
from turbo.exceptions import ImproperlyConfigured
from turbo.log_format.saying import say
from turbo.master.blueprint import Blueprint
from turbo.policy import rate_limit
from turbo.spawner.handle import start_spawner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.hosting import HostedApp
    from turbo.master.children.pool_restart import Starter
    from turbo.policy.task_options import TaskOptions
    from turbo.policy.worker_lifecycle import Request
    from turbo.policy.worker_options import WorkerOptions
    from turbo.spawner.messages import ChildBoot

    #: Takes the options of the children and the result backend; returns what starts a process that imports the app.
    FreshStarter = Callable[[ChildOptions, str | None], Starter]

logger = logging.getLogger("turbo.worker")

#: The module that runs the master.
_MASTER: Final = "turbo.worker.master_process"
#: Seconds. If the worker ends sooner after it was ready, because its spawner has died, it does not restart: that could
#: go on for ever. The time that its start takes does not count, or a slow start would pass for a long life.
_STABLE: Final = 5.0
#: Returned instead of an exit code: after its cleanup, the command must call :func:`restart`.
RESTART: Final = -1


def run(
    app: HostedApp,
    options: WorkerOptions,
    beat: Sequence[str] = (),
    fresh: FreshStarter | None = None,
    earlier: Sequence[Request] = (),
) -> int:
    """Run a worker for ``app`` until it is asked to stop.

    ``beat`` is the command of a beat beside it. ``fresh`` makes what starts a process that imports the app anew; None:
    the pool cannot be restarted. ``earlier`` receives what signals ask for until the loop handles them, which the
    master then carries out. Returns its exit code, or :data:`RESTART`. Raises ImproperlyConfigured for invalid settings
    before it starts anything.
    """
    blueprint = plan(app, options)
    of_children = child_options(app, options, blueprint)
    executor = app.executor(of_children)
    if fresh is not None:
        blueprint = replace(blueprint, import_anew=fresh(of_children, blueprint.result_backend))
    control = control_options(app.conf, options)
    # Master and children have read their settings: later changes would have no effect.
    app.freeze()
    spawner = start_spawner(
        child_main(options.hostname, executor, threads=options.threads is not None),
        title=lambda: setproctitle.setproctitle(f"[turbo: {options.hostname}:Spawner]"),
    )
    failpoint.set_role("master")
    setproctitle.setproctitle(f"[turbo: {options.hostname}:MainProcess]")
    began = time.monotonic()
    try:
        # Imported only now: what the master alone uses would otherwise be in the memory of spawner and children too.
        master, code = importlib.import_module(_MASTER).run(app, blueprint, spawner, control, beat, earlier)
    finally:
        spawner.close()
    if master.restarting:
        return RESTART
    orphaned = master.spawner_died and not master.asked_to_stop
    lived = time.monotonic() - (began if master.ready_at is None else master.ready_at)
    return RESTART if orphaned and lived > _STABLE else code


def restart() -> int:
    """Exec the command again in this process after its worker has ended.

    Returns an exit code if that fails. A process that had a loop and sockets must not fork a spawner, so the
    command starts over. State that exec keeps is reset first: signal handlers, and zombies of children whose
    spawner has died. HUP is ignored until the new worker handles it, because a second request to restart would
    change nothing.
    """
    logger.warning("Restarting the worker in the same process (pid %d)", os.getpid())
    say(f"Restarting celery worker ({' '.join(sys.argv)})")
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                break
        except ChildProcessError:
            break
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError as error:
        logger.critical("Cannot restart the worker (%s: %s); ending", sys.executable, error)
    return 1


def plan(app: HostedApp, options: WorkerOptions) -> Blueprint:
    """Return the master's options and collaborators, from the app's configuration.

    Raises ImproperlyConfigured.
    """
    conf, tasks = app.conf, app.task_options()
    _check_rates(tasks)
    tls = bool(conf["broker_use_ssl"])
    backend, settings = app.result_store()
    return Blueprint(
        options=options,
        read_addresses=parse_broker_urls(conf["broker_read_url"], tls=tls),
        write_addresses=parse_broker_urls(conf["broker_write_url"], tls=tls),
        tls=tls_options(conf["broker_use_ssl"]),
        queues=app.worker_queues(options),
        tasks=tasks,
        result_backend=backend,
        store_settings=settings,
        stores=app.stores_results and store_kind(backend) != "disabled",
        result_extended=bool(conf["result_extended"]),
        task_events=bool(conf["worker_send_task_events"]),
    )


def children(
    app: HostedApp, options: ChildOptions, result_backend: str | None
) -> tuple[Callable[[ChildBoot], None], dict[str, TaskOptions]]:
    """Return what runs in each child of an app that was imported anew.

    Also the options of its tasks. ``options`` and ``result_backend`` are the main process's. Raises
    ImproperlyConfigured for code that does not fit.
    """
    tasks = app.task_options()
    _check_rates(tasks)
    backend, _settings = app.result_store()
    if backend != result_backend:
        raise ImproperlyConfigured(
            "the new code has another result_backend, which the main process does not read anew: restart the worker"
        )
    executor = app.executor(options)
    app.freeze()
    return child_main(options.hostname, executor, threads=options.threads > 0), tasks


def _check_rates(tasks: Mapping[str, TaskOptions]) -> None:
    faults = rate_limit.faults((name, options.rate_limit) for name, options in tasks.items())
    if faults:
        raise ImproperlyConfigured("; ".join(faults))


def child_options(app: HostedApp, options: WorkerOptions, blueprint: Blueprint) -> ChildOptions:
    """Return the options of the children."""
    conf = app.conf
    return ChildOptions(
        hostname=options.hostname,
        accept_content=options.accept_content,
        max_body_size=options.max_body_size,
        time_limit=options.time_limit,
        soft_time_limit=options.soft_time_limit,
        max_deliveries=options.task_max_deliveries,
        async_concurrency=options.async_concurrency,
        threads=options.threads or 0,
        stores=blueprint.stores,
        result_serializer=conf["result_serializer"],
        result_rows=blueprint.stores and store_kind(blueprint.result_backend) == "sql",
        result_extended=bool(conf["result_extended"]),
        queues=frozenset(queue.name for queue in blueprint.queues),
        verbose=options.loglevel <= logging.INFO,
    )
