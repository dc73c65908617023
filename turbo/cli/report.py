"""``turbo report``: prints versions, platform and settings for a bug report.

Runs in the command's process; connects to nothing and prints no password.
"""

from __future__ import annotations

from typing import Any

import click

from turbo.cli.app_option import AppNotFoundError, find_app
from turbo.cli.global_options import GlobalOptions, check_loader, command
from turbo.control.report import describe


@command("report", [], "Print the information for a bug report: versions, the platform, the app's settings.")
def report_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Print the report."""
    lines = describe()
    try:
        found = find_app(options.app)
    except AppNotFoundError as error:
        lines += ["", str(error) if options.app else "no app found; name one with -A"]
    else:
        check_loader(options, has_loader=found.app.has_loader)
        lines += ["", f"app {found.where} ({found.because})", found.app.conf.humanize()]
    click.echo("\n".join(lines))
