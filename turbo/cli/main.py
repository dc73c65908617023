"""The command ``turbo``: global options and the subcommands.

Entry point of the console script and of ``python -m turbo``. With the subcommand ``worker``, this process becomes the
master.
"""

from __future__ import annotations

from typing import Any

import click

from turbo import __version__
from turbo.cli import last_threads, standard_streams
from turbo.cli.beat import beat_command
from turbo.cli.demo import demo_command
from turbo.cli.global_options import global_params, take_globals
from turbo.cli.report import report_command
from turbo.cli.worker import worker_command

_NOT_YET = (
    "amqp call control events graph inspect list logtool migrate multi purge result shell status upgrade"
).split()


class _Commands(click.Group):
    """The group of subcommands.

    Names of Celery's other subcommands get an error that says so.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand. Raises click.UsageError for an unknown or unsupported one."""
        if args and args[0] in _NOT_YET and args[0] not in self.commands:
            ctx.fail(f"turbo {args[0]} is not supported yet; use `celery {args[0]}` with the same broker")
        return super().resolve_command(ctx, args)


@click.pass_context
def _group(ctx: click.Context, /, **values: Any) -> None:
    take_globals(ctx, values)


turbo = _Commands(
    "turbo",
    params=[*global_params()],
    callback=_group,
    help="A fast worker for Celery's messages on RabbitMQ.",
    commands={"beat": beat_command, "demo": demo_command, "report": report_command, "worker": worker_command},
)
turbo = click.version_option(__version__, "--version", prog_name="turbo", message="%(prog)s %(version)s")(turbo)


def main() -> None:
    """Run the command and exit with its exit code."""
    standard_streams.make_usable()
    try:
        turbo(prog_name="turbo")
    except SystemExit as end:
        last_threads.limit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
