"""``-D``: runs the command in the background, in a session of its own.

The first process starts the same command again, waits until that one is set up, and ends; the second one knows by the
environment that it is the one in the background. Until then the second writes to a pipe that the first reads, so a
process that cannot start says why and gives its exit code. Runs in the command, before the app is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import click

from turbo.cli.global_options import EnvOption, SilentOption

#: Set for the process in the background; it then writes its own pid there, which it keeps when it starts over.
_VARIABLE: Final = "TURBO_DETACHED"
_NEW: Final = "new"
#: Celery's variable that keeps the process in the foreground, for finding out why it does not start.
_FAKE: Final = "C_FAKEFORK"
#: The last output of a process in the background that is set up.
_SET_UP: Final = b"\0set up\n"
_CHUNK: Final = 65536


def daemon_params() -> list[click.Parameter]:
    """Return new parameters for commands in the background or as another user."""
    return [
        SilentOption(["-D", "--detach"], is_flag=True, help="Run in the background; give --logfile and --pidfile too."),
        EnvOption(["--uid"], metavar="USER", help="Run as this user."),
        EnvOption(["--gid"], metavar="GROUP", help="Run as this group. [default: that of the user]"),
        EnvOption(["--umask"], metavar="OCTAL", help="Mask of the permissions of new files."),
        EnvOption(["--executable"], metavar="PATH", help="Python for the background, instead of this one."),
    ]


def is_wanted(given: bool) -> bool:
    """Return whether to call :func:`start`: ``-D`` in the foreground process."""
    if not given or os.environ.get(_FAKE):
        return False
    if os.environ.get(_VARIABLE) == _NEW:
        os.environ[_VARIABLE] = str(os.getpid())
    return not in_background()


def in_background() -> bool:
    """Return whether this process was started by :func:`start`.

    Its own subprocesses were not.
    """
    return os.environ.get(_VARIABLE) == str(os.getpid())


def start(started_in: str | None, executable: str | None, *, has_logfile: bool) -> int:
    """Start this command in the background, from the directory ``started_in``.

    Return the exit code. ``executable`` is a Python to use instead of this one.
    """
    if not has_logfile:
        click.echo("turbo: -D without --logfile: the log is not written anywhere", err=True)
    command = [executable or sys.executable, *sys.orig_argv[1:]]
    try:
        process = subprocess.Popen(
            command,
            cwd=started_in,
            env={**os.environ, _VARIABLE: _NEW},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        click.echo(f"turbo: cannot run {command[0]}: {error}", err=True)
        return 1
    said = _output(process)
    if said.endswith(_SET_UP):
        return 0
    code = process.wait()
    sys.stderr.write(said.decode(errors="replace"))
    return code if code > 0 else 1


def _output(process: subprocess.Popen[bytes]) -> bytes:
    """Return what the process writes until it is set up or ends.

    Its own children may hold the pipe for longer.
    """
    said = b""
    if process.stdout is not None:
        with process.stdout as pipe:
            while not said.endswith(_SET_UP) and (more := os.read(pipe.fileno(), _CHUNK)):
                said += more
    return said


def let_go() -> None:
    """Write to /dev/null from now on, which lets the first process end.

    Does nothing in the foreground.
    """
    if not in_background():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, _SET_UP)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
