"""``turbo call TASK``: sends a task and prints its id.

A client's command. It sends any name, since the task may be a worker's that this app does not have.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli.asking import broker_needed, find_client, json_option
from turbo.cli.global_options import EnvOption, GlobalOptions, command
from turbo.cli.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNENCODED: Final = ("EncodeError", "SerializerNotInstalled")


class Json(click.ParamType[Any]):
    """Option type: JSON of one type."""

    def __init__(self, kind: type[list[Any]] | type[dict[str, Any]], name: str) -> None:
        self.name = name
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse."""
        if isinstance(value, self._kind):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(found, self._kind):
            self.fail(f"{value} was not an {self.name}", param, ctx)
        return found


class Moment(click.ParamType[Any]):
    """Option type: a time in ISO 8601, or seconds from now with ``or_seconds``."""

    name = "time"

    def __init__(self, *, or_seconds: bool = False) -> None:
        self._or_seconds = or_seconds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse."""
        try:
            return float(value) if self._or_seconds and isinstance(value, str) and _is_number(value) else _moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _moment(value: str | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def _values_checked(task: str) -> Iterator[None]:
    """Turn errors of a call's values into UsageError, as of a wrong serializer."""
    try:
        yield
    except Exception as error:
        # Both libraries have errors of these names, and this module may not import Celery.
        if not isinstance(error, (TypeError, ValueError, OverflowError)) and type(error).__name__ not in _UNENCODED:
            raise
        raise click.UsageError(f"{task} cannot be sent: {error}") from error


@command(
    "call",
    [
        click.Argument(["name"], metavar="TASK"),
        EnvOption(["-a", "--args"], type=Json(list, "array"), default="[]", help="Positional arguments, as JSON."),
        EnvOption(["-k", "--kwargs"], type=Json(dict, "object"), default="{}", help="Keyword arguments, as JSON."),
        EnvOption(["--eta"], type=Moment(), help="Run at this time (ISO 8601)."),
        EnvOption(["--countdown"], type=float, metavar="SECONDS", help="Run so much later."),
        EnvOption(
            ["--expires"], type=Moment(or_seconds=True), help="Do not run after this time, or this many seconds."
        ),
        EnvOption(["--serializer"], default="json", show_default=True, help="Serializer of the arguments."),
        EnvOption(["--queue"], help="Queue to send to."),
        EnvOption(["--exchange"], help="Exchange to send to."),
        EnvOption(["--routing-key"], help="Routing key to send with."),
        json_option(),
    ],
    "Send a task, and print its id.",
)
def call_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Send the task."""
    app = find_client(options)
    name, args, kwargs, as_json = (given.pop(key) for key in ("name", "args", "kwargs", "json"))
    near = None if name in app.tasks else nearest(name, app.tasks)
    if near is not None:
        click.echo(f"turbo call: this app has no task {name}; did you mean {near!r}? It is sent as it is", err=True)
    with broker_needed(app), _values_checked(name):
        sent = app.client.send_task(
            name, args=args, kwargs=kwargs, **{key: value for key, value in given.items() if value is not None}
        )
    click.echo(json.dumps({"id": sent.id, "task": name}) if as_json else sent.id)
