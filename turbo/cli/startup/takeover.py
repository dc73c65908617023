"""The command in place of Celery's ``worker`` below ``turbo exec``.

Celery's ``app.worker_main``, ``app.start`` and command line all run it, with the app that the program has. It takes
turbo's options, which include Celery's.
"""

from __future__ import annotations

from typing import Any

import click

from turbo.cli.main import run


@click.pass_context
def _callback(ctx: click.Context, /, words: tuple[str, ...], **_preload: Any) -> None:
    celerys: Any = ctx.obj
    ctx.exit(run(celerys.app, ["worker", *words], quiet=celerys.quiet, no_color=celerys.no_color))


worker = click.Command(
    "worker",
    params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
    callback=_callback,
    help="Start turbo's worker.",
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
)
