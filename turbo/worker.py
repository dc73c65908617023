"""THE wiring: from an app and its options to a running worker, and back to an exit code.

Runs in the process that becomes the master, before any loop, thread or socket exists: the spawner is forked first,
so that children inherit none of them. The one module that knows master, child and spawner.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import setproctitle
import uvloop

from turbo import failpoint
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.backends.registry import store_settings
from turbo.backends.url import store_kind
from turbo.child.main import child_main
from turbo.child.options import ChildOptions
from turbo.master.assembly import Blueprint
from turbo.master.main import Master
from turbo.spawner.handle import start_spawner

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.policy.worker_options import WorkerOptions

logger = logging.getLogger("turbo.worker")


def run(app: Turbo, options: WorkerOptions) -> int:
    """Run a worker for ``app`` until it is told to stop; return its exit code.

    Raises ImproperlyConfigured for settings that cannot be used, before anything is started.
    """
    blueprint = plan(app, options)
    spawner = start_spawner(
        child_main(app, child_options(app, options, blueprint)),
        title=lambda: setproctitle.setproctitle(f"[turbo: {options.hostname}:Spawner]"),
    )
    failpoint.set_role("master")
    setproctitle.setproctitle(f"[turbo: {options.hostname}:MainProcess]")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_main(blueprint, spawner))
    finally:
        spawner.close()


async def _main(blueprint: Blueprint, spawner: object) -> int:
    master = Master(blueprint, spawner, asyncio.get_running_loop())  # type: ignore[arg-type]
    return await master.run()


def plan(app: Turbo, options: WorkerOptions) -> Blueprint:
    """Everything that the master is told, worked out from the app's configuration."""
    conf = app.conf
    tls = bool(conf["broker_use_ssl"])
    backend = conf["result_backend"]
    return Blueprint(
        options=options,
        read_addresses=parse_broker_urls(conf["broker_read_url"], tls=tls),
        write_addresses=parse_broker_urls(conf["broker_write_url"], tls=tls),
        tls=tls_options(conf["broker_use_ssl"]),
        queues=app.worker_queues(options.queues or None, options.exclude_queues or None),
        tasks=app.task_options(),
        result_backend=backend,
        store_settings=store_settings(conf),
        stores=store_kind(backend) != "disabled",
    )


def child_options(app: Turbo, options: WorkerOptions, blueprint: Blueprint) -> ChildOptions:
    """Everything that a child is told."""
    conf = app.conf
    return ChildOptions(
        hostname=options.hostname,
        accept_content=options.accept_content,
        max_body_size=options.max_body_size,
        time_limit=options.time_limit,
        soft_time_limit=options.soft_time_limit,
        max_deliveries=options.task_max_deliveries,
        stores=blueprint.stores,
        result_serializer=conf["result_serializer"],
        result_extended=bool(conf["result_extended"]),
        queues=frozenset(queue.name for queue in blueprint.queues),
        verbose=options.loglevel <= logging.INFO,
    )
