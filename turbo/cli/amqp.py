"""``turbo amqp``: declares, deletes and reads queues, exchanges, messages.

A client's command. With an operation it runs that one and ends; without, it reads operations from standard input, one a
line. The operations and their arguments are those of ``celery amqp``.
"""

from __future__ import annotations

import pprint
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.amqp.client.administration import Administration
from turbo.amqp.client.connection import Refused
from turbo.cli.asking import broker_needed, broker_of, find_client
from turbo.cli.global_options import GlobalOptions, command
from turbo.cli.remote_commands import truth
from turbo.cli.suggestions import hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.app.conf.conf import Settings

_ENDS: Final = ("exit", "quit", ":q")
#: Marks an argument that must be given.
_NEEDED: Final = object()


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation: its arguments (name, converter, default), and what it does.

    The result is printed.
    """

    arguments: Sequence[tuple[str, Callable[[str], Any], Any]]
    run: Callable[..., str | None]


def _declare_queue(broker: Administration, queue: str, passive: bool, durable: bool, auto_delete: bool) -> str:
    state = broker.declare_queue(queue, passive=passive, durable=durable, auto_delete=auto_delete)
    return f"queue:{state.name} messages:{state.messages} consumers:{state.consumers}"


def _delete_queue(broker: Administration, queue: str, if_unused: bool, if_empty: bool) -> str:
    return f"{broker.delete_queue(queue, if_unused=if_unused, if_empty=if_empty)} messages deleted."


def _get(broker: Administration, queue: str, no_ack: bool) -> str:
    found = broker.get(queue, no_ack=no_ack)
    if found is None:
        return "No messages in queue. basic.publish something."
    body = found.body.decode("utf-8", "backslashreplace")
    return pprint.pformat({"body": body, "properties": found.properties, "delivery_info": found.delivery_info})


def _declare_exchange(
    broker: Administration, exchange: str, type: str, passive: bool, durable: bool, auto_delete: bool
) -> None:
    broker.declare_exchange(exchange, type, passive=passive, durable=durable, auto_delete=auto_delete)


def _publish(broker: Administration, msg: str, exchange: str, routing_key: str, mandatory: bool) -> None:
    broker.publish(msg.encode(), exchange, routing_key, mandatory=mandatory)


_QUEUE: Final = ("queue", str, _NEEDED)
_EXCHANGE: Final = ("exchange", str, _NEEDED)
_KEY: Final = ("routing_key", str, _NEEDED)
_FLAGS: Final = tuple((name, truth, False) for name in ("passive", "durable", "auto_delete"))

OPERATIONS: Final[Mapping[str, _Operation]] = {
    "basic.ack": _Operation([("delivery_tag", int, _NEEDED)], Administration.ack),
    "basic.get": _Operation([_QUEUE, ("no_ack", truth, False)], _get),
    "basic.publish": _Operation([("msg", str, _NEEDED), _EXCHANGE, _KEY, ("mandatory", truth, False)], _publish),
    "exchange.declare": _Operation([_EXCHANGE, ("type", str, _NEEDED), *_FLAGS], _declare_exchange),
    "exchange.delete": _Operation(
        [_EXCHANGE, ("if_unused", truth, False)],
        lambda broker, name, if_unused: broker.delete_exchange(name, if_unused=if_unused),
    ),
    "queue.bind": _Operation([_QUEUE, _EXCHANGE, _KEY], Administration.bind_queue),
    "queue.declare": _Operation([_QUEUE, *_FLAGS], _declare_queue),
    "queue.delete": _Operation([_QUEUE, ("if_unused", truth, False), ("if_empty", truth, False)], _delete_queue),
    "queue.purge": _Operation([_QUEUE], lambda broker, name: f"{broker.purge_queue(name)} messages deleted."),
}


def usage(name: str) -> str:
    """Return how an operation is written."""
    words = [word if default is _NEEDED else f"[{word}={default}]" for word, _, default in OPERATIONS[name].arguments]
    return " ".join([name, *words])


def arguments_of(name: str, words: Sequence[str]) -> list[Any]:
    """Return an operation's arguments.

    Raises UsageError for an unknown operation and for wrong arguments.
    """
    if name not in OPERATIONS:
        raise click.UsageError(
            f"no operation {name!r}{hint(name, OPERATIONS) or '.'} There are: {', '.join(OPERATIONS)}"
        )
    declared = OPERATIONS[name].arguments
    needed = sum(1 for _, _, default in declared if default is _NEEDED)
    if not needed <= len(words) <= len(declared):
        raise click.UsageError(f"usage: {usage(name)}")
    values = []
    for number, (word, convert, default) in enumerate(declared):
        try:
            values.append(convert(words[number]) if number < len(words) else default)
        except ValueError as error:
            raise click.UsageError(f"{name}: {word}: {error}") from None
    return values


def words_of(line: str) -> list[str]:
    """Return the words of a line as a shell would.

    Raises UsageError for a quote without its end.
    """
    try:
        return shlex.split(line)
    except ValueError as error:
        raise click.UsageError(f"{line.strip()}: {error}; to write a quote itself, put a backslash before it") from None


@command(
    "amqp",
    [
        click.Argument(["operation"], required=False, metavar="[OPERATION]"),
        click.Argument(["arguments"], nargs=-1, metavar="[ARGUMENT]..."),
    ],
    "Declare, delete and read single queues, exchanges and messages. Without an operation, read operations from "
    "standard input, one a line.\n\n\b\n" + "\n".join(usage(name) for name in OPERATIONS),
)
def amqp_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Run one operation, or those of standard input."""
    app = find_client(options)
    if given["operation"]:
        values = arguments_of(given["operation"], given["arguments"])
        with broker_needed(app), Administration(*broker_of(app.conf)) as broker:
            _run(broker, given["operation"], values)
        return
    with broker_needed(app):
        _read(app.conf)


def _run(broker: Administration, name: str, values: Sequence[Any]) -> None:
    said = OPERATIONS[name].run(broker, *values)
    if said:
        click.echo(said)
    click.secho("OK", fg="green", bold=True)


def _read(conf: Settings) -> None:
    """Run the operations of standard input until it ends."""
    at_terminal = sys.stdin.isatty()
    with Administration(*broker_of(conf)) as broker:
        click.echo(f"-> connected to {broker.label}.")
        while True:
            click.echo("amqp> " if at_terminal else "", nl=False)
            line = sys.stdin.readline()
            try:
                words = words_of(line)
            except click.UsageError as error:
                click.echo(f"ERROR: {error.message}", err=True)
                continue
            if not line or (words and words[0] in _ENDS):
                return
            if not words:
                continue
            if words[0] == "help":
                click.echo("\n".join(usage(name) for name in OPERATIONS))
                continue
            try:
                _run(broker, words[0], arguments_of(words[0], words[1:]))
            except click.UsageError as error:
                click.echo(f"ERROR: {error.message}", err=True)
            except Refused as refused:
                click.echo(f"ERROR: {refused}", err=True)
