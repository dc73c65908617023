"""THE wiring: from an app and its options to a running worker, and back to an exit code.

Runs in the process that becomes the master, before any loop, thread or socket exists: the spawner is forked first,
so that children inherit none of them. The one module that knows master, child and spawner.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import setproctitle
import uvloop

from turbo import failpoint
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.backends.url import store_kind
from turbo.child.main import child_main
from turbo.child.options import ChildOptions
from turbo.control.options import control_options
from turbo.control.service import RemoteControl
from turbo.log_format.saying import say
from turbo.master.assembly import Blueprint
from turbo.master.main import Master
from turbo.spawner.handle import start_spawner

if TYPE_CHECKING:
    from turbo.control.app_commands import AppCommands
    from turbo.control.options import ControlOptions
    from turbo.hosting import HostedApp
    from turbo.policy.worker_options import WorkerOptions
    from turbo.spawner.handle import Spawner

logger = logging.getLogger("turbo.worker")

#: A worker whose spawner dies sooner than this after its start, in seconds, ends instead of starting anew for ever.
_STABLE: Final = 5.0
#: Instead of an exit code: the command shall run anew, by :func:`run_anew`, when all around the worker is put away.
AGAIN: Final = -1


def run(app: HostedApp, options: WorkerOptions) -> int:
    """Run a worker for ``app`` until it is told to stop; return its exit code, or :data:`AGAIN`.

    Raises ImproperlyConfigured for settings that cannot be used, before anything is started.
    """
    blueprint = plan(app, options)
    executor = app.executor(child_options(app, options, blueprint))
    commands = app.commands(options)
    control = control_options(app.conf, options)
    # All that master and children do from here on was decided by the app's settings.
    app.freeze()
    spawner = start_spawner(
        child_main(options.hostname, executor),
        title=lambda: setproctitle.setproctitle(f"[turbo: {options.hostname}:Spawner]"),
    )
    failpoint.set_role("master")
    setproctitle.setproctitle(f"[turbo: {options.hostname}:MainProcess]")
    began = time.monotonic()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            master, code = runner.run(_main(blueprint, spawner, commands, control))
    finally:
        spawner.close()
    if master.restarting:
        return AGAIN
    orphaned = master.spawner_died and not master.asked_to_stop
    return AGAIN if orphaned and time.monotonic() - began > _STABLE else code


async def _main(
    blueprint: Blueprint, spawner: Spawner, commands: AppCommands, control: ControlOptions
) -> tuple[Master, int]:
    master = Master(blueprint, spawner, asyncio.get_running_loop())
    loop = asyncio.get_running_loop()
    master.accompany(RemoteControl(master, commands, control, loop))
    return master, await master.run()


def run_anew() -> int:
    """Run the command again in this process, whose worker has ended; return an exit code if that cannot be done.

    A process with a loop and sockets must not fork a spawner. What exec keeps is put right first: signals, and the
    zombies of children whose spawner is gone. HUP is ignored until the new worker hears it: it asks for nothing more.
    """
    logger.warning("Starting the worker anew in the same process (pid %d)", os.getpid())
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
        logger.critical("The worker cannot be started anew (%s: %s) and ends", sys.executable, error)
    return 1


def plan(app: HostedApp, options: WorkerOptions) -> Blueprint:
    """Everything that the master is told, worked out from the app's configuration."""
    conf = app.conf
    tls = bool(conf["broker_use_ssl"])
    backend, settings = app.result_store()
    return Blueprint(
        options=options,
        read_addresses=parse_broker_urls(conf["broker_read_url"], tls=tls),
        write_addresses=parse_broker_urls(conf["broker_write_url"], tls=tls),
        tls=tls_options(conf["broker_use_ssl"]),
        queues=app.worker_queues(options),
        tasks=app.task_options(),
        result_backend=backend,
        store_settings=settings,
        stores=app.stores_results and store_kind(backend) != "disabled",
        result_extended=bool(conf["result_extended"]),
        hooks=app.hooks(options),
    )


def child_options(app: HostedApp, options: WorkerOptions, blueprint: Blueprint) -> ChildOptions:
    """Everything that a child is told."""
    conf = app.conf
    return ChildOptions(
        hostname=options.hostname,
        accept_content=options.accept_content,
        max_body_size=options.max_body_size,
        time_limit=options.time_limit,
        soft_time_limit=options.soft_time_limit,
        max_deliveries=options.task_max_deliveries,
        async_concurrency=options.async_concurrency,
        stores=blueprint.stores,
        result_serializer=conf["result_serializer"],
        result_extended=bool(conf["result_extended"]),
        queues=frozenset(queue.name for queue in blueprint.queues),
        verbose=options.loglevel <= logging.INFO,
    )
