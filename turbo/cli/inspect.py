"""``turbo inspect COMMAND``: asks workers without changing them.

A client's command: it connects to the broker, prints the replies and ends.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from turbo.cli import replies
from turbo.cli.asking import ask, asking_params, find_client
from turbo.cli.global_options import GlobalOptions, SilentOption, command
from turbo.cli.remote_commands import INSPECT, find_command, listing, parse_arguments

if TYPE_CHECKING:
    from turbo.hosting import HostedApp

_HELP = """Ask workers about their tasks, queues and state. `turbo inspect --list` lists the commands.

\b
turbo -A proj inspect active
turbo -A proj inspect ping -d celery@web1 --json
"""


def remote_params() -> list[click.Parameter]:
    """Return new click parameters for a command of remote control with its arguments."""
    return [
        click.Argument(["name"], metavar="COMMAND", required=False),
        click.Argument(["arguments"], nargs=-1, metavar="[ARGUMENT]..."),
        SilentOption(["--list"], is_flag=True, help="List the commands and exit."),
        *asking_params(),
    ]


@command("inspect", remote_params(), _HELP)
def inspect_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Ask, and print each worker's answer."""
    app = find_client(options)
    found = ask_by_name(app, INSPECT, given)
    if found is None:
        return
    if given["json"]:
        click.echo(json.dumps(found, default=str))
        return
    for node, answer in found.items():
        click.echo(replies.headline(node, answer, quiet=options.quiet))
        click.echo(replies.body(given["name"], answer))
    if not options.quiet:
        click.echo(replies.count(len(found)))


def ask_by_name(app: HostedApp, kind: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """Send the command that the command line names.

    Return the answers by worker, or None after ``--list``.
    """
    if given["list"]:
        click.echo(listing(kind, app.added_commands), nl=False)
        return None
    if given["name"] is None:
        raise click.UsageError(f"name a command; `turbo {kind} --list` lists them")
    info = find_command(kind, given["name"], app.added_commands)
    arguments = parse_arguments(given["name"], info, given["arguments"])
    return dict(ask(app, given["name"], arguments, given))
