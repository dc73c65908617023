"""The command ``turbo``: global options and the subcommands.

Entry point of the console script and of ``python -m turbo``. With the subcommand ``worker``, this process becomes the
master.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import click

from turbo import __version__
from turbo.cli import last_threads, standard_streams
from turbo.cli.global_options import GlobalOptions, global_params, take_globals
from turbo.cli.suggestions import hint
from turbo.master import os_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Each command ``x`` is ``x_command`` of the module ``turbo.cli.x``.
COMMANDS: Final = (
    "amqp", "beat", "call", "control", "demo", "events", "exec", "inspect", "list", "multi", "purge", "report",
    "result", "shell", "status", "worker",
)  # fmt: skip
#: Celery's commands that turbo does not have.
_CELERYS: Final = ("graph", "logtool", "migrate", "upgrade")


class _Commands(click.Group):
    """The group of subcommands.

    Imports a command's module when the command is used: a probe shall start quickly.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, for the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"turbo.cli.{cmd_name}"), f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand. Raises click.UsageError for an unknown or unsupported one."""
        name = args[0] if args else ""
        if name in _CELERYS:
            ctx.fail(f"turbo has no command {name}: run `celery {name}` itself, with the same arguments")
        if name and not name.startswith("-") and name not in COMMANDS:
            ctx.fail(f"no command {name!r}{hint(name, COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.pass_context
def _group(ctx: click.Context, /, **values: Any) -> None:
    take_globals(ctx, values)


turbo = _Commands(
    "turbo",
    params=[*global_params()],
    callback=_group,
    help="A fast worker for Celery's messages on RabbitMQ.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
turbo = click.version_option(__version__, "--version", prog_name="turbo", message="%(prog)s %(version)s")(turbo)


def run(app: Any, arguments: Sequence[object], *, quiet: bool = False, no_color: bool = False) -> int:
    """Run a command in a program that has the app already.

    Return its exit code. As in Celery, values may be numbers, and an option whose value is None is not given. Raises
    click's exceptions for a wrong command line.
    """
    standard_streams.make_usable()
    options = GlobalOptions(app=app, quiet=quiet, no_color=no_color)
    with os_signals.kept():
        os_signals.dump_on_request()
        code = turbo.main(_words(arguments), prog_name="turbo", standalone_mode=False, obj=options)
    return code if isinstance(code, int) else 0


def _words(arguments: Sequence[object]) -> list[str]:
    """Return a program's arguments as a command line."""
    words: list[str] = []
    for argument in arguments:
        if argument is not None:
            words.append(str(argument))
        elif words:
            words.pop()
    return words


def main() -> None:
    """Run the command and exit with its exit code."""
    standard_streams.make_usable()
    os_signals.dump_on_request()
    try:
        turbo(prog_name="turbo")
    except SystemExit as end:
        last_threads.limit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except OSError as error:
        if not standard_streams.is_full(error):
            raise
        click.echo(f"turbo: the output cannot be written: {error}", err=True)
        standard_streams.drop_output()
        raise SystemExit(1) from error
