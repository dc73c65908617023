"""``turbo status``: lists the workers that answer.

A client's command: it connects to the broker, prints the replies and ends.
"""

from __future__ import annotations

import json
from typing import Any

import click

from turbo.cli import replies
from turbo.cli.asking import ask, asking_params, find_client
from turbo.cli.global_options import GlobalOptions, command


@command("status", asking_params(), "List the workers that are online.")
def status_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Ping all workers, and print which of them answer."""
    found = dict(ask(find_client(options), "ping", {}, given))
    if given["json"]:
        click.echo(json.dumps(found, default=str))
        return
    for node, answer in found.items():
        click.echo(replies.headline(node, answer, quiet=options.quiet))
    if not options.quiet:
        click.echo(replies.count(len(found)))
