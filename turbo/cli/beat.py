"""``turbo beat``: sends the periodic tasks of an app.

Runs in one process with one thread, until SIGTERM or SIGINT. It imports the app, sets logging up as a worker does, and
leaves the rest to the app's library (``HostedApp.run_beat``).
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any, Final

import click
import setproctitle

from turbo import __version__
from turbo.beat.election import leader_queue
from turbo.beat.options import BeatOptions
from turbo.beat.stop_request import StopRequest
from turbo.cli import before_start, detached, privileges, user_options
from turbo.cli.app_option import FoundApp, find_app
from turbo.cli.beat_beside_worker import BESIDE_WORKER
from turbo.cli.global_options import EnvOption, GlobalOptions, SilentOption, check_loader, command
from turbo.cli.nodename import expand, host_codes
from turbo.cli.quantities import Positive
from turbo.cli.start_errors import START_ERRORS, report
from turbo.cli.worker_settings import write_into
from turbo.log_format import LEVELS
from turbo.master import os_signals

_HELP: Final = """Send periodic tasks when they are due, to be run by workers.

\b
turbo beat -l INFO                    beat of the app found in this directory
turbo -A proj beat -s /var/lib/proj/schedule
"""


def beat_params() -> list[click.Parameter]:
    """Return new click parameters for ``turbo beat``."""
    return [
        EnvOption(
            ["-s", "--schedule"], metavar="PATH", help="File of the last runs. [default: beat_schedule_filename]"
        ),
        EnvOption(["-S", "--scheduler"], metavar="CLASS", help="Scheduler class. [default: beat_scheduler]"),
        EnvOption(
            ["--max-interval"],
            type=Positive(),
            metavar="SECONDS",
            help="Longest sleep between two looks at the schedule. [default: beat_max_loop_interval, or 300]",
        ),
        EnvOption(
            ["-l", "--loglevel"],
            type=click.Choice(LEVELS, case_sensitive=False),
            default=None,
            help="[default: WARNING]",
        ),
        EnvOption(["-f", "--logfile"], metavar="PATH", help="Log here instead of standard error. %n name, %h host."),
        EnvOption(["--log-json"], is_flag=True, help="Write each log line as a JSON object."),
        EnvOption(["--pidfile"], metavar="PATH", help="Write the pid here; do not start if another beat holds it."),
        EnvOption(["-n", "--hostname"], help="Name of the node in %n. [default: celerybeat@%h]"),
        *detached.daemon_params(),
        SilentOption(
            [BESIDE_WORKER], is_flag=True, hidden=True, help="End at the end of standard input, which a worker holds."
        ),
        click.Argument(["overrides"], nargs=-1, metavar="[-- SETTING=VALUE]..."),
    ]


@command("beat", beat_params(), _HELP, user_options.of_app)
def beat_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Run beat and exit with its exit code."""
    before_start.leave_for_background(ctx, options, given)
    os_signals.unblock()
    code = 0
    with contextlib.ExitStack() as cleanup:
        try:
            _run(options, given, cleanup)
        except START_ERRORS as error:
            code = report("beat", error)
    ctx.exit(code)


def _run(given_globals: GlobalOptions, given: dict[str, Any], cleanup: contextlib.ExitStack) -> None:
    """Set the app up and run its beat until it is asked to end."""
    privileges.take(given)
    stop = StopRequest(sys.stdin.fileno() if given["beside_worker"] else None)
    stop.listen()
    found = find_app(given_globals.app)
    app = found.app
    check_loader(given_globals, has_loader=app.has_loader)
    host = socket.gethostname()
    hostname = expand(given["hostname"] or "celerybeat@%h", host_codes(host))
    conf = app.conf
    user_options.complete(app, given)
    app.import_for_beat()
    write_into(conf, {**given, "include": ()})
    log = before_start.set_up_log(app, given, hostname)
    before_start.hold_pidfile(given, hostname, cleanup)
    app.finalize()
    setproctitle.setproctitle(f"[turbo: {hostname}:Beat]")
    if not given_globals.quiet:
        _greet(found)
    detached.let_go()
    with app.redirecting(log.setup.redirect_level):
        app.run_beat(_options(found, given), stop)


def _options(found: FoundApp, given: dict[str, Any]) -> BeatOptions:
    return BeatOptions(
        given["schedule"],
        given["scheduler"],
        given["max_interval"],
        given["beside_worker"],
        leader_queue(found.app.conf, found.app.main, found.where),
    )


def _greet(found: FoundApp) -> None:
    stream = found.app.banner_stream()
    if stream is not None:
        stream.write(f"turbo beat {__version__} is starting: app {found.where} ({found.because})\n")
        stream.flush()
