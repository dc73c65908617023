"""The options of every command, and their environment variables.

Runs in the command, before the user's modules are imported. The values are passed to the app through the environment
variables that its configuration reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.app.conf.loading import working_directory

if TYPE_CHECKING:
    from collections.abc import Callable


#: Where a click context keeps the directory before ``--workdir``, and the options that the app has added.
_SETTLED: Final = "turbo.started_in"
_ADDED: Final = "turbo.added_options"


class EnvOption(click.Option):
    """An option that can be set by an environment variable.

    The variables are ``TURBO_<COMMAND>_<NAME>``, then ``CELERY_<COMMAND>_<NAME>``.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the environment's value, or None."""
        for prefix in ("TURBO", "CELERY"):
            command = "" if ctx.parent is None else f"{(ctx.info_name or '').upper()}_"
            value = os.environ.get(f"{prefix}_{command}{(self.name or '').upper()}")
            if value:
                return value
        return None


class SilentOption(click.Option):
    """An option without an environment variable."""


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The values of the global options.

    None and False mean that an option was not given.
    """

    #: A name, or the app itself where a program has it.
    app: Any = None
    broker: str | None = None
    result_backend: str | None = None
    config: str | None = None
    workdir: str | None = None
    loader: str | None = None
    no_color: bool = False
    quiet: bool = False
    skip_checks: bool = False
    #: The directory before ``--workdir``; None if it is gone.
    started_in: str | None = None

    @property
    def in_program(self) -> bool:
        """Whether a program runs the command with its own app and goes on afterwards."""
        return self.app is not None and not isinstance(self.app, str)


def global_params() -> list[click.Parameter]:
    """Return new click parameters for the global options, for one command."""
    return [
        # app_option reads TURBO_APP and CELERY_APP itself, so that it can name them in the banner.
        SilentOption(["-A", "--app"], metavar="APP", help="The app: package, package.module or module:attribute."),
        EnvOption(["-b", "--broker"], metavar="URL", help="Broker's URL, instead of the app's."),
        EnvOption(["--result-backend"], metavar="URL", help="Result store's URL, instead of the app's."),
        EnvOption(["--config"], metavar="MODULE", help="Configuration module for an app that does not name one."),
        EnvOption(["--workdir"], metavar="DIR", help="Change to this directory first."),
        EnvOption(["--loader"], metavar="NAME", help="Loader of a Celery app that does not name one."),
        EnvOption(["-C", "--no-color"], is_flag=True, help="No colours."),
        EnvOption(["-q", "--quiet"], is_flag=True, help="Print no banner."),
        EnvOption(["--skip-checks"], is_flag=True, help="Let Django start without its system checks."),
    ]


def take_globals(ctx: click.Context, values: dict[str, Any]) -> GlobalOptions:
    """Take a command's global options and merge them with those before its name.

    Options after the name take precedence.
    """
    own = {field.name: values.pop(field.name) for field in fields(GlobalOptions) if field.name in values}
    inherited = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
    merged = replace(inherited, **{name: value for name, value in own.items() if value})
    ctx.obj = merged
    return merged


def apply_globals(options: GlobalOptions) -> None:
    """Change directory and set environment variables.

    Called before the app is imported. Raises click.UsageError if the directory cannot be changed.
    """
    if options.workdir:
        try:
            os.chdir(options.workdir)
        except OSError as error:
            raise click.UsageError(f"--workdir: {error}") from None
    if options.no_color:
        os.environ["NO_COLOR"] = "1"
    # These variables override every setting, so the command line sets them.
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
    """Raise click.UsageError if ``--loader`` is given for an app that has no loader."""
    if options.loader not in (None, "default", "app") and not has_loader:
        raise click.UsageError(f"--loader {options.loader}: only Celery's apps have loaders; turbo's have none")


def settle_globals(ctx: click.Context, values: dict[str, Any]) -> GlobalOptions:
    """Take the global options out of ``values`` and apply them.

    Again, only the former. Raises click.UsageError if the directory cannot be changed.
    """
    options = take_globals(ctx, values)
    if _SETTLED not in ctx.meta:
        directory = working_directory()
        apply_globals(options)
        ctx.meta[_SETTLED] = str(directory) if directory else None
    return replace(options, started_in=ctx.meta[_SETTLED])


class Command(click.Command):
    """A command of turbo's.

    ``added`` returns the options that the app adds to it, from the global options.
    """

    def __init__(
        self, *args: Any, added: Callable[[GlobalOptions, click.Command], list[click.Parameter]] | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._added = added

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of the command, and those that the app has added by now."""
        return [*super().get_params(ctx), *ctx.meta.get(_ADDED, ())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line.

        If it has an option that turbo does not know, ask the app for its options first.
        """
        if self._added is None:
            return super().parse_args(ctx, args)
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption:
            parser = self.make_parser(ctx)
            parser.ignore_unknown_options = True
            found, _, _ = parser.parse_args(list(args))
            options = settle_globals(ctx, {name: value for name, value in found.items() if isinstance(value, str)})
            added = self._added(options, self)
            if not added:
                raise
            ctx.meta[_ADDED] = added
        return super().parse_args(ctx, args)


def command(
    name: str,
    params: list[click.Parameter],
    help_text: str,
    added: Callable[[GlobalOptions, click.Command], list[click.Parameter]] | None = None,
) -> Callable[[Callable[[click.Context, GlobalOptions, dict[str, Any]], None]], click.Command]:
    """Return a decorator that makes a click command of a function.

    The function is called as ``run(ctx, global options, values)``. ``added`` returns the options that the app adds.
    """

    def decorate(run: Callable[[click.Context, GlobalOptions, dict[str, Any]], None]) -> click.Command:
        @click.pass_context
        def callback(ctx: click.Context, /, **values: Any) -> None:
            run(ctx, settle_globals(ctx, values), values)

        return Command(name, params=[*params, *global_params()], callback=callback, help=help_text, added=added)

    return decorate
