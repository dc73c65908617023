"""``turbo list bindings``: lists the broker's bindings.

A client's command. AMQP cannot list bindings, so it asks RabbitMQ's management plugin over HTTP.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli.asking import UnavailableError, broker_of, find_client, json_option
from turbo.cli.global_options import GlobalOptions, command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.app.conf.conf import Settings

_PORT: Final = 15672
_TIMEOUT: Final = 15.0
_COLUMNS: Final = "{:<28} {:<28} {}"


@command(
    "list",
    [click.Argument(["what"], type=click.Choice(["bindings"])), json_option()],
    "List the broker's bindings. RabbitMQ's management plugin must be on.",
)
def list_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Print one line for each binding: queue, exchange, routing key."""
    bindings = _bindings(find_client(options).conf)
    if given["json"]:
        click.echo(json.dumps(bindings))
        return
    click.echo(_COLUMNS.format("Queue", "Exchange", "Routing Key"))
    click.echo(_COLUMNS.format(*["-" * 16] * 3))
    for one in bindings:
        click.echo(_COLUMNS.format(one["destination"], one["source"], one["routing_key"]))


def _bindings(conf: Settings) -> list[dict[str, Any]]:
    address = broker_of(conf)[0][0]
    more: Mapping[str, Any] = conf["broker_transport_options"] or {}
    host = more.get("manager_hostname", address.host)
    port = more.get("manager_port", _PORT)
    user, password = more.get("manager_userid", address.user), more.get("manager_password", address.password)
    url = f"http://{host}:{port}/api/bindings/{urllib.parse.quote(address.vhost, safe='')}"
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            found: list[dict[str, Any]] = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UnavailableError(
            f"RabbitMQ's management plugin does not answer at {host}:{port}: {error}; "
            "broker_transport_options can set manager_hostname, manager_port, manager_userid and manager_password"
        ) from error
    return found
