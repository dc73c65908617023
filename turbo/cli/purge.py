"""``turbo purge``: deletes the messages that wait in the app's queues.

A client's command: it asks for confirmation, connects to the broker, deletes and ends.
"""

from __future__ import annotations

from typing import Any, Final

import click

from turbo.amqp.client.administration import Administration
from turbo.amqp.client.connection import Refused
from turbo.cli.asking import broker_needed, broker_of, comma_separated, find_client
from turbo.cli.excluded_queues import unknown_excluded
from turbo.cli.global_options import EnvOption, GlobalOptions, SilentOption, command

_NOT_FOUND: Final = 404
_SURE: Final = """{warning}: this deletes all tasks from {queues}: {names}.
         There is no way back.

(to skip this question use the -f option)

Are you sure you want to delete all tasks?"""


@command(
    "purge",
    [
        SilentOption(["-f", "--force"], is_flag=True, help="Do not ask."),
        EnvOption(["-Q", "--queues"], callback=comma_separated, metavar="NAMES", help="Purge these queues only."),
        EnvOption(["-X", "--exclude-queues"], callback=comma_separated, metavar="NAMES", help="Not these queues."),
    ],
    "Delete the messages that wait in the app's queues. There is no way back.",
)
def purge_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Ask, delete, and print how many messages were deleted."""
    app = find_client(options)
    names = sorted(set(given["queues"] or app.client.amqp.queues.keys()) - set(given["exclude_queues"]))
    for line in unknown_excluded(app, given["exclude_queues"], given["queues"]):
        click.echo(f"{click.style('WARNING', fg='red')}: {line}", err=True)
    if not names:
        return
    queues = "queue" if len(names) == 1 else "queues"
    if not given["force"]:
        warning = click.style("WARNING", fg="red")
        click.confirm(_SURE.format(warning=warning, queues=queues, names=", ".join(names)), abort=True)
    deleted = 0
    with broker_needed(app), Administration(*broker_of(app.conf)) as broker:
        for name in names:
            deleted += _purged(broker, name)
    if deleted:
        messages = "message" if deleted == 1 else "messages"
        click.echo(f"Purged {deleted} {messages} from {len(names)} known task {queues}.")
    else:
        click.echo(f"No messages purged from {len(names)} {queues}.")


def _purged(broker: Administration, name: str) -> int:
    """Purge a queue; return the number of messages.

    A queue that does not exist has none, and is named.
    """
    try:
        return broker.purge_queue(name)
    except Refused as refused:
        if refused.code != _NOT_FOUND:
            raise
        click.echo(f"Queue {name} does not exist.", err=True)
        return 0
