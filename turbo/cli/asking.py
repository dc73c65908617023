"""What commands that ask workers or the broker share: app, options, codes.

Used by ``turbo inspect``, ``control``, ``status`` and the other commands that are clients. Runs in the command's
process. It must never import the app's task modules: a probe shall be quick.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.amqp.tls import TlsOptions, tls_options
from turbo.amqp.url import BrokerAddress, parse_broker_urls
from turbo.app.base import Turbo
from turbo.cli.app_option import AppNotFoundError, find_app
from turbo.cli.global_options import EnvOption, GlobalOptions, check_loader
from turbo.cli.quantities import Limit
from turbo.exceptions import ImproperlyConfigured, OperationalError
from turbo.native.app import NativeApp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turbo.app.conf.conf import Settings
    from turbo.hosting import HostedApp

#: Exit code when nobody replies or the broker cannot be reached ("service unavailable" in sysexits.h).
EX_UNAVAILABLE: Final = 69
_BROKER_VARIABLE: Final = "CELERY_BROKER_URL"


class UnavailableError(click.ClickException):
    """Nobody replied, or the broker cannot be reached."""

    exit_code = EX_UNAVAILABLE


def find_client(options: GlobalOptions) -> HostedApp:
    """Return the app of a command that is a client.

    Without ``-A``, and where no app is found, a broker's URL is enough. Raises ClickException.
    """
    try:
        found = find_app(options.app).app
    except AppNotFoundError as error:
        if options.app or not os.environ.get(_BROKER_VARIABLE):
            raise click.ClickException(str(error)) from None
        return NativeApp(Turbo("turbo", set_as_current=False))
    check_loader(options, has_loader=found.has_loader)
    return found


@contextmanager
def broker_needed(app: HostedApp) -> Iterator[None]:
    """Turn connection errors into exit code 69, configuration errors into 1."""
    lost: tuple[type[Exception], ...] = (OperationalError, *app.broker_errors)
    try:
        yield
    except click.ClickException:
        raise
    except lost as error:
        labels = ", ".join(address.label for address in broker_of(app.conf)[0])
        raise UnavailableError(f"the broker at {labels} cannot be used: {error}") from error
    except ImproperlyConfigured as error:
        raise click.ClickException(str(error)) from error


def broker_of(conf: Settings) -> tuple[list[BrokerAddress], TlsOptions | None]:
    """Return the addresses of ``broker_write_url``, and what TLS needs."""
    tls = conf["broker_use_ssl"]
    return parse_broker_urls(conf["broker_write_url"], tls=bool(tls)), tls_options(tls)


def comma_separated(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    """Click's callback for an option that takes several names."""
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def asking_params() -> list[click.Parameter]:
    """Return new click parameters for a command that asks workers."""
    return [
        EnvOption(
            ["-t", "--timeout"], type=Limit(), default=1.0, show_default=True, help="Seconds to wait for replies."
        ),
        EnvOption(["-d", "--destination"], callback=comma_separated, metavar="NAMES", help="Ask these workers only."),
        json_option(),
    ]


def json_option() -> click.Parameter:
    """Return a new ``--json`` option."""
    return EnvOption(["-j", "--json"], is_flag=True, help="Print JSON.")


def ask(app: HostedApp, command: str, arguments: dict[str, Any], given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Send a command to workers; yield each one's name and answer.

    Raises UnavailableError if nobody replies.
    """
    with broker_needed(app):
        replies = app.client.control.broadcast(
            command,
            arguments=arguments,
            destination=given["destination"] or None,
            reply=True,
            timeout=given["timeout"],
        )
    if not replies:
        raise UnavailableError(f"No nodes replied within time constraint\n{_why_silent(command, given)}")
    for reply in replies:
        yield from reply.items()


def _why_silent(command: str, given: dict[str, Any]) -> str:
    """Return the possible reasons why nobody replied, and what to do."""
    if command == "shutdown":
        return "A worker sends no reply to shutdown; `turbo status` lists those that still run"
    asked = ", ".join(given["destination"])
    if asked:
        return f"Asked: {asked}. `turbo status` lists the workers; --timeout waits longer than {given['timeout']:g} s"
    return f"No worker uses this broker, or none could reply in {given['timeout']:g} s; --timeout waits longer"
