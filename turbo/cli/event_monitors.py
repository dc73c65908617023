"""Celery's own monitors of events: the screen, and the user's cameras.

Run by ``turbo events`` in its process, until it is interrupted, with an app of Celery's class: a Celery app itself, or
the view of one of turbo's own (``app.celery_view``). Needs Celery installed. It must never run in a worker.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli import detached
from turbo.cli.asking import UnavailableError
from turbo.cli.pidfile import Pidfile
from turbo.log_format import level_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turbo.hosting import HostedApp

logger = logging.getLogger("turbo.events")

_CELERY: Final = "celery"


@dataclass(frozen=True, slots=True)
class Camera:
    """The options of a camera."""

    #: Its class, as ``module.Class``.
    name: str
    #: Seconds between two pictures.
    frequency: float
    #: As ``10/m``; None: no limit.
    max_rate: str | None
    loglevel: str
    logfile: str | None
    pidfile: str | None


def is_celery_installed() -> bool:
    """Return whether the monitors can run."""
    return find_spec(_CELERY) is not None


def show_screen(app: HostedApp) -> None:
    """Show workers and tasks on the terminal."""
    with _monitoring(app) as client:
        importlib.import_module("celery.events.cursesmon").evtop(app=client)


def take_pictures(app: HostedApp, camera: Camera) -> None:
    """Run a camera until it is interrupted or gets SIGTERM.

    Raises click.UsageError for a class that cannot be imported, and PidfileTakenError and ImproperlyConfigured as
    ``Pidfile`` does.
    """
    if not is_celery_installed():
        raise click.UsageError("-c/--camera needs Celery, whose snapshot.Polaroid cameras derive from: install celery")
    with _monitoring(app) as client, contextlib.ExitStack() as held:
        try:
            importlib.import_module("celery.utils.imports").symbol_by_name(camera.name)
        except (ImportError, AttributeError, ValueError) as error:
            raise click.UsageError(f"-c/--camera {camera.name}: {error}") from error
        if camera.pidfile:
            held.enter_context(Pidfile(camera.pidfile))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        detached.let_go()
        try:
            importlib.import_module("celery.events.snapshot").evcam(
                camera.name,
                freq=camera.frequency,
                maxrate=camera.max_rate,
                loglevel=level_number(camera.loglevel),
                logfile=camera.logfile,
                app=client,
            )
        except Exception:
            if detached.in_background():  # nobody sees standard error any more
                logger.exception("The camera %s ends by an error", camera.name)
            raise


@contextlib.contextmanager
def _monitoring(app: HostedApp) -> Iterator[Any]:
    """Yield the app of Celery's class; exit with 69 if its broker is away or lost."""
    client = app.celery_client()
    with client.connection_for_read() as connection:
        label, lost = connection.as_uri(), (*connection.connection_errors, *connection.channel_errors)
    refused: type[Exception] = importlib.import_module("kombu.exceptions").OperationalError
    try:
        yield client
    except (refused, *lost) as error:
        raise UnavailableError(f"the broker at {label} cannot be used: {error}") from error
