"""``turbo control COMMAND``: changes workers while they run.

A client's command: it connects to the broker, prints the replies and ends.
"""

from __future__ import annotations

import json
from typing import Any

import click

from turbo.cli import replies
from turbo.cli.asking import find_client
from turbo.cli.global_options import GlobalOptions, command
from turbo.cli.inspect import ask_by_name, remote_params
from turbo.cli.remote_commands import CONTROL

_HELP = """Change workers while they run. `turbo control --list` lists the commands.

\b
turbo -A proj control revoke 4f1c6a0e-5a2b-4c5e-8f7d-6a1b2c3d4e5f
turbo -A proj control shutdown -d celery@web1
"""


@command("control", remote_params(), _HELP)
def control_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Send the command, and print each worker's answer."""
    found = ask_by_name(find_client(options), CONTROL, given)
    if found is None:
        return
    if given["json"]:
        click.echo(json.dumps([{node: answer} for node, answer in found.items()], default=str))
        return
    for node, answer in found.items():
        click.echo(replies.headline(node, answer, quiet=options.quiet))
        click.echo(replies.body(given["name"], answer))
