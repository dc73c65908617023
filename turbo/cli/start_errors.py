"""Says why a worker or beat cannot start, and with which exit code.

The commands call it. The app's log may have taken standard error by then, with ``--logfile`` and redirected output;
whoever started the command, also in the background, must read the reason on the terminal all the same.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from turbo.cli.pidfile import PidfileTakenError
from turbo.exceptions import ImproperlyConfigured, OperationalError, SecurityError

#: What keeps a command from starting.
START_ERRORS: Final = (ImproperlyConfigured, OperationalError, SecurityError, PidfileTakenError)
EX_FAILURE: Final = 1
#: sysexits.h; as Celery for a pidfile that is held.
EX_CANTCREAT: Final = 73


def report(command: str, error: Exception) -> int:
    """Print why the command cannot start; return its exit code."""
    line = f"turbo {command}: {error}"
    click.echo(line, err=True)
    if sys.stderr is not sys.__stderr__:
        click.echo(line, file=sys.__stderr__)
    return EX_CANTCREAT if isinstance(error, PidfileTakenError) else EX_FAILURE
