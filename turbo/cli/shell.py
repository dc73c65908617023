"""``turbo shell``: a Python shell with the app and its tasks.

Runs in the command's process: IPython if it is installed, else bpython, else Python's own shell.
"""

from __future__ import annotations

import code
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final

import click

from turbo import canvas
from turbo.cli.asking import find_client
from turbo.cli.global_options import GlobalOptions, SilentOption, command

if TYPE_CHECKING:
    from turbo.hosting import HostedApp

_CANVAS: Final = ("chain", "chord", "chunks", "group", "signature", "subtask", "xmap", "xstarmap")
_GREEN: Final = ("eventlet", "gevent")


@command(
    "shell",
    [
        SilentOption(["-I", "--ipython"], is_flag=True, help="Use IPython."),
        SilentOption(["-B", "--bpython"], is_flag=True, help="Use bpython."),
        SilentOption(["--python"], is_flag=True, help="Use Python's own shell."),
        SilentOption(["-T", "--without-tasks"], is_flag=True, help="Do not add the tasks."),
        *(SilentOption([f"--{name}"], is_flag=True, hidden=True) for name in _GREEN),
    ],
    "Start a Python shell with the app, its tasks, and the parts of the canvas.",
)
def shell_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Start the shell."""
    for name in _GREEN:
        if given[name]:
            raise click.UsageError(f"--{name} is not supported: the shell runs on ordinary threads")
    app = find_client(options)
    app.import_modules()
    app.finalize()
    names = names_of(app, with_tasks=not given["without_tasks"])
    shells = [name for name in ("ipython", "bpython", "python") if given[name]]
    _start(shells[0] if shells else _installed(), names)


def names_of(app: HostedApp, *, with_tasks: bool) -> dict[str, Any]:
    """Return what the shell knows by name."""
    # A Celery app's signatures are of Celery's classes.
    library = canvas if not app.has_loader else importlib.import_module("celery")
    names = {name: getattr(library, name) for name in _CANVAS if hasattr(library, name)}
    names.update(app=app.client, celery=app.client)
    if with_tasks:
        tasks = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
        names.update({name.rpartition(".")[2]: task for name, task in tasks.items()})
    return names


def _installed() -> str:
    for shell, module in (("ipython", "IPython"), ("bpython", "bpython")):
        if importlib.util.find_spec(module):
            return shell
    return "python"


def _start(shell: str, names: dict[str, Any]) -> None:
    if shell == "python":
        if importlib.util.find_spec("readline"):
            completer = importlib.import_module("rlcompleter").Completer(names)
            readline = importlib.import_module("readline")
            readline.set_completer(completer.complete)
            readline.parse_and_bind("tab:complete")
        code.interact(local=names)
        return
    module = "IPython" if shell == "ipython" else "bpython"
    if not importlib.util.find_spec(module):
        raise click.ClickException(f"{module} is not installed")
    found = importlib.import_module(module)
    if shell == "ipython":
        found.start_ipython(argv=[], user_ns=names)
    else:
        found.embed(names)
