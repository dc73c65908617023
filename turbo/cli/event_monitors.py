"""Celery's own monitors of events: the screen, and the user's cameras.

Run by ``turbo events`` in its process, until it is interrupted, with an app of Celery's class: a Celery app itself, or
the view of one of turbo's own (``app.celery_view``). Needs Celery installed. It must never run in a worker.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli import detached
from turbo.cli.asking import UnavailableError
from turbo.cli.pidfile import Pidfile
from turbo.log_format import level_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class Interruption:
    """Lets signals end a receiver of Celery's between two events.

    An exception in the midst of a frame loses what was read of it. The receiver would then wait for ever for the
    broker's answer to its goodbye, among bytes that are none.
    """

    def __init__(self) -> None:
        self._receiving = False
        self._asked: Callable[[], BaseException] | None = None

    def listen(self, number: int, error: Callable[[], BaseException]) -> None:
        """Raise ``error()`` when the signal comes.

        While events are received, it waits for the next one, or a second. A further signal does not wait.
        """

        def handle(*_: object) -> None:
            if not self._receiving or self._asked is not None:
                raise error()
            self._asked = error

        signal.signal(number, handle)

    def receiver(self, base: Any) -> Any:
        """Return a subclass of a receiver's class that these signals end.

        It looks whether it is to end before it waits for an event.
        """

        def on_iteration(receiver: Any) -> None:
            if self._asked is not None:
                raise self._asked()
            base.on_iteration(receiver)

        def consume(receiver: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            self._receiving = True
            try:
                yield from base.consume(receiver, *args, **kwargs)
            finally:
                self._receiving = False

        return type(base.__name__, (base,), {"on_iteration": on_iteration, "consume": consume})


def is_celery_installed() -> bool:
    """Return whether the monitors can run."""
    return find_spec(_CELERY) is not None


def show_screen(app: HostedApp) -> None:
    """Show workers and tasks on the terminal."""
    with _monitoring(app, Interruption()) as client:
        importlib.import_module("celery.events.cursesmon").evtop(app=client)


def take_pictures(app: HostedApp, camera: Camera) -> None:
    """Run a camera until it is interrupted or gets SIGTERM.

    Raises click.UsageError for a class that cannot be imported, and PidfileTakenError and ImproperlyConfigured as
    ``Pidfile`` does.
    """
    if not is_celery_installed():
        raise click.UsageError("-c/--camera needs Celery, whose snapshot.Polaroid cameras derive from: install celery")
    interruption = Interruption()
    with _monitoring(app, interruption) as client, contextlib.ExitStack() as held:
        try:
            importlib.import_module("celery.utils.imports").symbol_by_name(camera.name)
        except (ImportError, AttributeError, ValueError) as error:
            raise click.UsageError(f"-c/--camera {camera.name}: {error}") from error
        if camera.pidfile:
            held.enter_context(Pidfile(camera.pidfile))
        interruption.listen(signal.SIGTERM, lambda: SystemExit(0))
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
def _monitoring(app: HostedApp, interruption: Interruption) -> Iterator[Any]:
    """Yield the app of Celery's class, whose receivers end in order.

    Exit with 69 if its broker is away or lost.
    """
    client = app.celery_client()
    with client.connection_for_read() as connection:
        label, lost = connection.as_uri(), (*connection.connection_errors, *connection.channel_errors)
    refused: type[Exception] = importlib.import_module("kombu.exceptions").OperationalError
    interruption.listen(signal.SIGINT, KeyboardInterrupt)
    # The app is this process's alone, which runs no more than the monitor.
    client.events.Receiver = interruption.receiver(client.events.Receiver)
    try:
        yield client
    except (refused, *lost) as error:
        raise UnavailableError(f"the broker at {label} cannot be used: {error}") from error
