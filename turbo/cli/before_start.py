"""What a worker and beat do alike before they start: background, log, pidfile.

The commands call it, in the process that goes on. ``cli.detached`` and ``cli.pidfile`` do the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbo.cli import detached
from turbo.cli.nodename import file_name
from turbo.cli.pidfile import Pidfile
from turbo.cli.worker_settings import log_setup
from turbo.exceptions import ImproperlyConfigured
from turbo.log_format import level_number

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping

    import click

    from turbo.cli.global_options import GlobalOptions
    from turbo.hosting import HostedApp
    from turbo.log_format import LogSetup


@dataclass(frozen=True, slots=True)
class Log:
    """Where the process logs."""

    setup: LogSetup
    level: int
    #: The file with its variables replaced; None: standard error.
    logfile: str | None


def leave_for_background(ctx: click.Context, options: GlobalOptions, given: Mapping[str, Any]) -> None:
    """Start the command in the background and exit, if ``-D`` was given here."""
    if detached.is_wanted(given["detach"]):
        ctx.exit(detached.start(options.started_in, given["executable"], has_logfile=bool(given["logfile"])))


def set_up_log(app: HostedApp, given: Mapping[str, Any], hostname: str) -> Log:
    """Set logging up by the command's options.

    Raises ImproperlyConfigured if the file cannot be opened.
    """
    level = level_number(given["loglevel"] or "WARNING")
    logfile = file_name(given["logfile"], hostname) if given["logfile"] else None
    try:
        setup = log_setup(app.conf, level, logfile)
        app.set_up_logging(setup, hostname)
    except OSError as error:
        raise ImproperlyConfigured(str(error)) from error
    return Log(setup, level, logfile)


def hold_pidfile(given: Mapping[str, Any], hostname: str, cleanup: contextlib.ExitStack) -> None:
    """Hold the pidfile, if one was given, until ``cleanup`` ends."""
    if given["pidfile"]:
        cleanup.enter_context(Pidfile(file_name(given["pidfile"], hostname)))
