"""``turbo events``: shows or prints the events of workers and clients.

A client's command, which runs until it is interrupted. The lines are those of ``celery events --dump``. The screen and
cameras are Celery's (``cli.event_monitors``).
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.amqp.client.event_stream import receive
from turbo.cli import before_start, detached, privileges
from turbo.cli.asking import UnavailableError, broker_of, find_client, json_option
from turbo.cli.event_monitors import Camera, is_celery_installed, show_screen, take_pictures
from turbo.cli.global_options import EnvOption, GlobalOptions, SilentOption, command
from turbo.cli.quantities import Positive
from turbo.cli.start_errors import START_ERRORS, report
from turbo.exceptions import ContentDisallowed, DecodeError, OperationalError
from turbo.log_format import LEVELS
from turbo.policy.restarts import Backoff, reconnect_delay
from turbo.protocol import content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turbo.amqp.client.mailbox import Packet
    from turbo.app.conf.conf import Settings
    from turbo.hosting import HostedApp

_HELP: Final = """Show the events of workers and tasks as they arrive.

On a terminal, Celery's screen; elsewhere, without Celery or with --dump, one line each. `turbo control enable_events`
turns the events of tasks on.
"""
#: Attempts in a row to connect, as many as a worker of Celery's makes.
_ATTEMPTS: Final = 100
_BACKOFF: Final = Backoff(first=0.5, cap=30.0)
#: Seconds of one wait for an event.
_STEP: Final = 60.0
#: Tasks whose description is remembered for the events that only have their id.
_REMEMBERED: Final = 4096
_CALLED: Final = {"worker-offline": "shutdown", "worker-online": "started", "worker-heartbeat": "heartbeat"}


class Dump:
    """Formats events as lines.

    Remembers each task's description, since most events have only its id.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, str] = {}

    def line(self, event: dict[str, Any]) -> str:
        """Return the line of one event."""
        fields = dict(event)
        kind = str(fields.pop("type", "")).lower()
        when = datetime.fromtimestamp(float(fields.pop("timestamp", 0.0)), UTC)
        node = fields.pop("hostname", "")
        described = self._task(kind, fields) + " " if kind.startswith("task-") else ""
        shown = ", ".join(f"{name}={fields[name]}" for name in sorted(fields))
        colon = ":" if shown else ""
        return f"{node} [{when}] {_CALLED.get(kind, kind.replace('-', ' '))}{colon} {described}{shown}"

    def _task(self, kind: str, fields: dict[str, Any]) -> str:
        identifier = str(fields.pop("uuid", ""))
        if kind in ("task-received", "task-sent"):
            name, args, kwargs = (fields.pop(key, None) for key in ("name", "args", "kwargs"))
            self._tasks.pop(identifier, None)
            self._tasks[identifier] = f"{name}({identifier}) args={args} kwargs={kwargs}"
            if len(self._tasks) > _REMEMBERED:
                del self._tasks[next(iter(self._tasks))]
        return self._tasks.get(identifier, "")


@command(
    "events",
    [
        SilentOption(["-d", "--dump"], is_flag=True, help="Print each event."),
        json_option(),
        SilentOption(["-c", "--camera"], metavar="CLASS", help="Pass snapshots to this camera of Celery's kind."),
        SilentOption(
            ["-F", "--frequency", "--freq"], type=Positive(), default=1.0, metavar="SECONDS",
            help="Time between two snapshots. [default: 1]",
        ),
        SilentOption(["-r", "--maxrate"], metavar="RATE", help="Most snapshots, such as 10/m."),
        EnvOption(
            ["-l", "--loglevel"], type=click.Choice(LEVELS, case_sensitive=False), default="WARNING",
            help="Of a camera. [default: WARNING]",
        ),
        EnvOption(["-f", "--logfile"], metavar="PATH", help="Of a camera. [default: standard error]"),
        EnvOption(["--pidfile"], metavar="PATH", help="Of a camera."),
        *detached.daemon_params(),
    ],
    _HELP,
)  # fmt: skip
def events_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Show or print events until interrupted."""
    if given["detach"] and not given["camera"]:
        raise click.UsageError("-D/--detach is of a camera: give -c/--camera", ctx)
    before_start.leave_for_background(ctx, options, given)
    try:
        privileges.take(given)
        _show(find_client(options), given)
    except START_ERRORS as error:
        ctx.exit(report("events", error))


def _show(app: HostedApp, given: dict[str, Any]) -> None:
    if given["camera"]:
        named = (given[name] for name in ("camera", "frequency", "maxrate", "loglevel", "logfile", "pidfile"))
        take_pictures(app, Camera(*named))
    elif given["dump"] or given["json"] or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _print_events(app, given)
    elif is_celery_installed():
        show_screen(app)
    else:
        _to_stderr("The screen is Celery's, which is not installed; printing the events (--dump).")
        _print_events(app, given)


def _print_events(app: HostedApp, given: dict[str, Any]) -> None:
    dump = Dump()
    say = _to_stderr if given["json"] else click.echo
    say("-> evdump: starting capture...")
    try:
        for event in _events(app.conf, say):
            click.echo(json.dumps(event, default=str) if given["json"] else dump.line(event))
    except KeyboardInterrupt:
        return


def _to_stderr(text: str) -> None:
    click.echo(text, err=True)


def _events(conf: Settings, say: Callable[[str], object]) -> Iterator[dict[str, Any]]:
    """Yield events; connect again when the connection is lost.

    Raises UnavailableError if it stays lost.
    """
    addresses, tls = broker_of(conf)
    accepted = content.accept_set(conf["accept_content"])
    failures = 0

    def connected() -> None:
        nonlocal failures
        failures = 0

    while True:
        try:
            exchange, prefix = conf["event_exchange"], conf["event_queue_prefix"]
            for packet in receive(addresses, tls, exchange, prefix, connected, step=_STEP):
                if packet is not None:
                    yield from _decoded(packet, accepted, say)
        except OperationalError as error:
            failures += 1
            if failures >= _ATTEMPTS:
                raise UnavailableError(f"gave up after {failures} attempts: {error}") from error
            pause = reconnect_delay(failures, random.random(), _BACKOFF)
            say(f"-> Connection lost ({error}); trying again in {pause:.1f} s")
            time.sleep(pause)


def _decoded(packet: Packet, accepted: frozenset[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Return the events of a message: one, or a list of them."""
    try:
        found = content.decode(packet.body, packet.content_type, packet.content_encoding, accepted)
    except (DecodeError, ContentDisallowed) as error:
        say(f"-> skipped a message that is no event: {error}")
        return []
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]
