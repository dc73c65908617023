"""``turbo report``: what to put into a bug report. Prints versions, the platform and the app's settings.

Runs in the command alone; connects to nothing and shows no password.
"""

from __future__ import annotations

import platform
import sys
from typing import Any, Final

import click

from turbo import __version__
from turbo.cli.app_option import AppNotFoundError, find_app
from turbo.cli.global_options import GlobalOptions, check_loader, command
from turbo.hosting import HostedApp

_PACKAGES: Final = (
    "pika", "orjson", "psutil", "uvloop", "setproctitle", "click",
    "redis", "hiredis", "celery", "kombu", "billiard",
)  # fmt: skip


def _version(package: str) -> str:
    # Slow to load, and every worker loads this module.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@command("report", [], "Print what a bug report needs: versions, the platform, the app's settings.")
def report_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Print the report."""
    lines = [
        f"turbo {__version__}",
        f"python {platform.python_version()} ({sys.executable})",
        f"platform {platform.platform()} libc {' '.join(platform.libc_ver())}",
        *(f"{package} {_version(package)}" for package in _PACKAGES),
    ]
    try:
        found = find_app(options.app)
    except AppNotFoundError as error:
        lines += ["", str(error) if options.app else "no app here; name one with -A"]
    else:
        check_loader(options, is_celerys=isinstance(found.app, HostedApp))
        lines += ["", f"app {found.where} ({found.because})", found.app.conf.humanize()]
    click.echo("\n".join(lines))
