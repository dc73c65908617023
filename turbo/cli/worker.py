"""``turbo worker``: sets the app up, runs the worker and returns its exit code.

Runs in the process that becomes the master. Everything here happens before any loop, thread or socket exists, because
``worker.wiring`` forks the spawner first.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.app.conf.extras import check as check_extras
from turbo.cli import before_start, detached, fresh_spawner, privileges, user_options
from turbo.cli.app_option import FoundApp, find_app
from turbo.cli.banner import banner
from turbo.cli.beat_beside_worker import command_beside_worker
from turbo.cli.cgroup import memory_limit
from turbo.cli.early_signals import EarlySignals, StopAsked
from turbo.cli.excluded_queues import unknown_excluded
from turbo.cli.global_options import GlobalOptions, check_loader, command
from turbo.cli.green_threads import refuse_patched
from turbo.cli.nodename import node_name
from turbo.cli.pools import without_effect
from turbo.cli.quantities import shown_kib
from turbo.cli.start_errors import EX_FAILURE, START_ERRORS, report
from turbo.cli.worker_broker import start_embedded
from turbo.cli.worker_params import worker_params
from turbo.cli.worker_settings import worker_options, write_into
from turbo.exceptions import ImproperlyConfigured, SecurityError
from turbo.master import os_signals
from turbo.policy.recycling import default_hard_limit
from turbo.worker import wiring

if TYPE_CHECKING:
    from turbo.app.conf.conf import Settings
    from turbo.policy.worker_options import WorkerOptions

logger = logging.getLogger("turbo.worker")

_PICKLE: Final = "application/x-python-serialize"

_HELP = """Run a worker: receive messages, run their tasks, settle them.

\b
turbo worker -c 4                     run the app found in this directory
turbo -A proj worker -l INFO          run the app of package proj
turbo -A proj worker -Q hipri,lopri   consume from these queues only
"""


@command("worker", worker_params(), _HELP, user_options.of_app)
def worker_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Run a worker and exit with its exit code."""
    before_start.leave_for_background(ctx, options, given)
    if threading.current_thread() is not threading.main_thread():
        raise click.UsageError("a worker handles signals, so it must be started in the program's main thread", ctx)
    signals = EarlySignals()
    signals.importing()
    os_signals.unblock()
    try:
        code = _run(options, given, signals)
    except StopAsked as asked:
        signals.end_by(asked.number)
        code = EX_FAILURE
    if code == wiring.RESTART and options.in_program:
        # After all that the program does at its end.
        atexit.register(wiring.restart)
        code = 0
    elif code == wiring.RESTART:
        code = wiring.restart()
    ctx.exit(code)


def _run(options: GlobalOptions, given: dict[str, Any], signals: EarlySignals) -> int:
    """Run the worker and clean up.

    Return its exit code, or wiring.RESTART.
    """
    with contextlib.ExitStack() as cleanup:
        try:
            return _start(options, given, cleanup, signals)
        except START_ERRORS as error:
            return report("worker", error)


def _start(
    given_globals: GlobalOptions, given: dict[str, Any], cleanup: contextlib.ExitStack, signals: EarlySignals
) -> int:
    """Set up and run the worker; return its exit code.

    ``cleanup`` gets the callbacks for the end.
    """
    privileges.import_for_later(given)
    privileges.take(given)
    found = find_app(given_globals.app)
    app = found.app
    check_loader(given_globals, has_loader=app.has_loader)
    conf = app.conf
    about_broker = [start_embedded(conf, cleanup)] if given["embedded_broker"] else []
    hostname = node_name(given["hostname"], socket.gethostname())
    user_options.complete(app, given)
    app.name_worker(hostname, given)
    write_into(conf, given)
    # Import before logging is set up: receivers of its signals may be in these modules.
    app.import_modules()
    refuse_patched()
    signals.setting_up()
    log = before_start.set_up_log(app, given, hostname)
    before_start.hold_pidfile(given, hostname, cleanup)
    app.finalize()
    warnings = conf.check_supported()
    check_extras(conf, stores=app.stores_results)
    warnings += app.unsupported_features()
    options = worker_options(conf, given, hostname=hostname, level=log.level, logfile=log.logfile)
    options = _guard_memory(options, conf)
    warnings += _root_guard(options)
    app.prepare(options)
    warnings += without_effect(conf["worker_pool"], given)
    warnings += unknown_excluded(app, options.exclude_queues, options.queues)
    warnings += about_broker
    _print_banner(found, options, given_globals.quiet)
    for warning in warnings:
        logger.warning("%s", warning)
    detached.let_go()
    with app.redirecting(log.setup.redirect_level):
        fresh = fresh_spawner.starter(fresh_spawner.brief(found, given, options))
        beat = _beat(found, given, options, given_globals.quiet)
        signals.starting()
        return wiring.run(app, options, beat, fresh, signals.noted)


def _beat(found: FoundApp, given: dict[str, Any], options: WorkerOptions, quiet: bool) -> list[str]:
    """Return the command of the beat beside this worker; an empty list without ``-B``."""
    if not given["beat"]:
        return []
    return command_beside_worker(found.where, given, level=options.loglevel, logfile=options.logfile, quiet=quiet)


def _guard_memory(options: WorkerOptions, conf: Settings) -> WorkerOptions:
    """Set a child's hard memory limit from the control group, by default."""
    group = memory_limit() if conf["worker_max_memory_per_child_hard"] is None else None
    limit = default_hard_limit(group) if group is not None else None
    if group is None or limit is None:
        return options
    logger.info(
        "A child that uses more than %s of memory is killed, since the limit of the worker's control group is %s; "
        "set worker_max_memory_per_child_hard for another limit, 0 for none",
        shown_kib(limit),
        shown_kib(group // 1024),
    )
    return replace(options, max_memory_per_child_hard=limit)


def _root_guard(options: WorkerOptions) -> list[str]:
    """Return the warnings about running as root.

    Raises SecurityError if pickle is accepted as root: anyone who can publish could then run code as root.
    """
    if os.geteuid() != 0:
        return []
    if _PICKLE in options.accept_content and not os.environ.get("C_FORCE_ROOT"):
        raise SecurityError(
            "this worker would run as root and accept pickle, so anyone who can publish could run any code "
            "as root. Remove pickle from accept_content, run as another user, or set C_FORCE_ROOT=1"
        )
    return ["running as root: tasks can do anything on this machine"]


def _print_banner(found: FoundApp, options: WorkerOptions, quiet: bool) -> None:
    """Print the banner unless ``quiet``.

    Raises ImproperlyConfigured if no queue is left to consume from.
    """
    queues = found.app.worker_queues(options)
    if not queues:
        raise ImproperlyConfigured("there is no queue to consume from: -X excludes all of them")
    if quiet:
        return
    names = sorted(name for name in found.app.tasks if not name.startswith("celery."))
    text = banner(found, options, queues, tasks=names if options.loglevel <= logging.INFO else ())
    stream = found.app.banner_stream()
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()
