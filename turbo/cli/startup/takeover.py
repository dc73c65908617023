"""What replaces Celery's ``worker`` and ``Worker`` below ``turbo exec``.

Celery's ``app.worker_main``, ``app.start`` and command line run the command, and ``app.Worker`` is made of the class.
Both run ``turbo worker`` with the app that the program has, and take turbo's options, which include Celery's.
"""

from __future__ import annotations

from typing import Any

import click

from turbo.app.running import Worker as _TurbosWorker
from turbo.cli.main import run
from turbo.exceptions import ImproperlyConfigured


class _Command(click.Command):
    """Passes all its words on to ``turbo worker``, which alone reads them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words as they are, since turbo reads added options too."""
        ctx.params["words"] = tuple(args)
        return []


@click.pass_context
def _callback(ctx: click.Context, /, words: tuple[str, ...]) -> None:
    celerys: Any = ctx.obj
    ctx.exit(run(celerys.app, ["worker", *words], quiet=celerys.quiet, no_color=celerys.no_color))


worker = _Command("worker", callback=_callback, help="Start turbo's worker.", add_help_option=False)


class Worker(_TurbosWorker):
    """One worker of a Celery app in the program's own process."""

    def __init_subclass__(cls) -> None:
        """Refuse a subclass that changes Celery's worker.

        None of its methods would be called.
        """
        # Celery itself makes a subclass for each app, with the app in it.
        changed = sorted(name for name in vars(cls) if name == "__init__" or not name.startswith("__"))
        changed = [name for name in changed if name != "app"]
        if changed:
            raise ImproperlyConfigured(
                f"{cls.__module__}.{cls.__qualname__} changes {', '.join(changed)} of Celery's Worker, which turbo's "
                "worker does not call: use worker signals or bootsteps, or run this program without turbo exec"
            )
