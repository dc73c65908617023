"""The options that an app adds to turbo's commands (``app.user_options``).

Used by ``cli.global_options`` when a command line has an option that turbo does not know: the app is then imported
before the command line is read, otherwise after. Their values become options of the worker (``worker.options``, the
arguments of bootsteps, ``options`` of ``celeryd_init``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli.app_option import AppNotFoundError, find_app

if TYPE_CHECKING:
    from turbo.cli.global_options import GlobalOptions
    from turbo.hosting import HostedApp

#: Options that each of the commands gets.
_PRELOAD: Final = "preload"


def of_app(options: GlobalOptions, command: click.Command) -> list[click.Parameter]:
    """Return the options that the app of a command line adds to a command.

    None if there is no app.
    """
    try:
        return added_options(find_app(options.app).app, command)
    except AppNotFoundError:
        # The command itself says that, after its command line is read.
        return []


def added_options(app: HostedApp, command: click.Command) -> list[click.Parameter]:
    """Return the options that an app adds to a command.

    Raises click.UsageError for one that turbo has too.
    """
    found = [*_sorted(app, str(command.name)), *_sorted(app, _PRELOAD)]
    own = {name for param in command.params for name in (*param.opts, *param.secondary_opts, param.name)}
    for option in found:
        if own.intersection((*option.opts, *option.secondary_opts, option.name)):
            raise click.UsageError(
                f"the app adds the option {'/'.join(option.opts)}, which turbo has itself: rename it"
            )
    return found


def complete(app: HostedApp, given: dict[str, Any]) -> None:
    """Add the app's options that were not given; tell it those of all commands.

    Raises click.UsageError for a required one.
    """
    ctx = click.get_current_context()
    for option in added_options(app, ctx.command):
        if option.expose_value and option.name not in given:
            option.handle_parse_result(ctx, {}, [])
            given[str(option.name)] = ctx.params[str(option.name)]
    preloaded = {str(option.name): given.get(str(option.name)) for option in _sorted(app, _PRELOAD)}
    if preloaded:
        app.take_preload_options(preloaded)


def _sorted(app: HostedApp, command: str) -> list[click.Parameter]:
    # Not by get(): a native app has a hidden option there, for Celery's command line.
    added = app.client.user_options
    return sorted(added[command] if command in added else (), key=lambda option: str(option.name))
