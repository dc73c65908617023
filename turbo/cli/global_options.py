"""The options that every command takes, before or after its name, and how options read the environment.

Runs in the command, before anything of the user's is imported: the values reach the app through the
environment variables that its configuration reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


class EnvOption(click.Option):
    """An option that ``TURBO_<COMMAND>_<NAME>`` and then ``CELERY_<COMMAND>_<NAME>`` set, as Celery's do."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The environment's value, or None."""
        for prefix in ("TURBO", "CELERY"):
            command = "" if ctx.parent is None else f"{(ctx.info_name or '').upper()}_"
            value = os.environ.get(f"{prefix}_{command}{(self.name or '').upper()}")
            if value:
                return value
        return None


class SilentOption(click.Option):
    """An option that no environment variable sets."""


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The values; None and False mean that nobody gave one."""

    app: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    config: str | None = None
    workdir: str | None = None
    loader: str | None = None
    no_color: bool = False
    quiet: bool = False
    skip_checks: bool = False


def global_params() -> list[click.Parameter]:
    """New click parameters for the global options, for one command."""
    return [
        # Not from the environment here: TURBO_APP and CELERY_APP are read by app_option, which says so.
        SilentOption(["-A", "--app"], metavar="APP", help="The app: package, package.module or module:attribute."),
        EnvOption(["-b", "--broker"], metavar="URL", help="Broker's URL, instead of the app's."),
        EnvOption(["--result-backend"], metavar="URL", help="Result store's URL, instead of the app's."),
        EnvOption(["--config"], metavar="MODULE", help="Configuration module for an app that names none."),
        EnvOption(["--workdir"], metavar="DIR", help="Change to this directory first."),
        EnvOption(["--loader"], metavar="NAME", help="Loader of a Celery app that names none."),
        EnvOption(["-C", "--no-color"], is_flag=True, help="No colours."),
        EnvOption(["-q", "--quiet"], is_flag=True, help="Print no banner."),
        EnvOption(["--skip-checks"], is_flag=True, help="Let Django start without its system checks."),
    ]


def take_globals(ctx: click.Context, values: dict[str, Any]) -> GlobalOptions:
    """Pull the global options out of a command's ``values``, over those given before the command's name.

    What is given after the name wins.
    """
    own = {field.name: values.pop(field.name) for field in fields(GlobalOptions) if field.name in values}
    inherited = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
    merged = replace(inherited, **{name: value for name, value in own.items() if value})
    ctx.obj = merged
    return merged


def apply_globals(options: GlobalOptions) -> None:
    """Do what must be done before the app is imported: directory, environment variables, colours.

    Raises click.UsageError for what cannot be done.
    """
    if options.workdir:
        try:
            os.chdir(options.workdir)
        except OSError as error:
            raise click.UsageError(f"--workdir: {error}") from None
    if options.no_color:
        os.environ["NO_COLOR"] = "1"
    # Variables that outrank every setting, so that the command line outranks them in turn.
    for value, variables in (
        (options.broker, ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")),
        (options.result_backend, ("CELERY_RESULT_BACKEND",)),
        (options.config, ("CELERY_CONFIG_MODULE",)),
        (options.loader, ("CELERY_LOADER",)),
        ("true" if options.skip_checks else None, ("CELERY_SKIP_CHECKS",)),
    ):
        if value:
            os.environ.update(dict.fromkeys(variables, value))


def check_loader(options: GlobalOptions, *, has_loader: bool) -> None:
    """Refuse a loader for an app that has none. Raises click.UsageError."""
    if options.loader not in (None, "default", "app") and not has_loader:
        raise click.UsageError(f"--loader {options.loader}: only Celery's apps have loaders; turbo's have none")


def command(
    name: str, params: list[click.Parameter], help_text: str
) -> Callable[[Callable[[click.Context, GlobalOptions, dict[str, Any]], None]], click.Command]:
    """Make a click command that also takes the global options, and gets both kinds apart."""

    def decorate(run: Callable[[click.Context, GlobalOptions, dict[str, Any]], None]) -> click.Command:
        @click.pass_context
        def callback(ctx: click.Context, /, **values: Any) -> None:
            options = take_globals(ctx, values)
            apply_globals(options)
            run(ctx, options, values)

        return click.Command(name, params=[*params, *global_params()], callback=callback, help=help_text)

    return decorate
