"""Integrates a Django project, found by its environment variable.

It is set up before a worker imports its tasks.

Made with the app, in clients and workers. In a client, only the class of the tasks is chosen here; the program sets
Django up itself. A worker's command sets the project up before it imports tasks, and ``fixups.django_connections``
manages the children's connections. It must never import Django before it has to set something up, nor read the settings
while the app is made: the settings often import the module that makes the app.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from turbo import signals
from turbo.exceptions import FixupWarning
from turbo.fixups.django_connections import TaskConnections

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("turbo.fixups.django")

#: The base class of tasks in a Django project, unless the app names another.
TASK_CLASS: Final = "turbo.contrib.django.task:DjangoTask"
#: Celery's setting for the number of tasks that share a connection.
REUSE_MAX: Final = "CELERY_DB_REUSE_MAX"
_SETTINGS: Final = "DJANGO_SETTINGS_MODULE"
_SKIP_CHECKS: Final = "CELERY_SKIP_CHECKS"


def project_of(app: Any) -> DjangoProject | None:
    """Return the Django project that the environment names, or None.

    Warns when there is one but no Django.
    """
    if not os.environ.get(_SETTINGS):
        return None
    if importlib.util.find_spec("django") is None:
        warnings.warn(FixupWarning(f"{_SETTINGS} is set, but Django is not installed"), stacklevel=4)
        return None
    return DjangoProject(app)


class DjangoProject:
    """The project around one app.

    ``app`` is a ``turbo.Turbo``, of which only ``conf`` is read.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connections: TaskConnections | None = None
        with contextlib.suppress(FileNotFoundError):  # the directory may be gone
            here = str(Path.cwd())
            if here not in sys.path:
                sys.path.insert(0, here)
        # The app keeps this object, and with it the receiver.
        signals.worker_init.connect(self._worker_begins)

    def set_up(self) -> None:
        """Load Django's applications and check them, unless CELERY_SKIP_CHECKS is set.

        For workers. Errors that the checks find are logged; what they raise passes. Idempotent.
        """
        import django
        from django.core import checks
        from django.utils.module_loading import import_string

        django.setup()
        if not os.environ.get(_SKIP_CHECKS):
            for message in checks.run_checks():
                if message.is_serious() and not message.is_silenced():
                    logger.error("Django's system check: %s", message)
        for name in _task_backends():
            # Importing turbo's backend registers the task that runs Django's tasks.
            import_string(name)

    def packages(self) -> list[str]:
        """The names of the installed applications.

        Raises AppRegistryNotReady before the project is set up.
        """
        from django.apps import apps

        return [config.name for config in apps.get_app_configs()]

    def tidy(self) -> None:
        """Close this thread's connections that are due, after a call in the master.

        The call is one of the program's code.
        """
        if self._connections is not None:
            self._connections.after_hook()

    def _worker_begins(self, sender: Any, **_: object) -> None:
        """Connect the children's receivers, after the program's, before the fork."""
        if sender.app is not self._app:
            return
        from django.core.cache import close_caches
        from django.db import connections

        kept = self._connections = TaskConnections(connections, close_caches, self._app.conf.get(REUSE_MAX) or 0)
        signals.worker_process_init.connect(kept.after_fork)
        signals.task_prerun.connect(kept.before_task)
        signals.task_postrun.connect(kept.after_task)
        kept.before_fork()


def drop_inherited() -> TaskConnections | None:
    """Drop the connections of the program that this process is a fork of.

    They stay open in the program. Returns what keeps them from being closed by the garbage collector here, or None if
    the program uses no Django.
    """
    if "django.db" not in sys.modules:
        return None
    from django.conf import settings
    from django.core.cache import close_caches
    from django.db import connections

    if not settings.configured:
        return None  # something has imported Django, but nothing can have connected
    inherited = TaskConnections(connections, close_caches)
    inherited.after_fork()
    return inherited


def _task_backends() -> list[str]:
    """Return the backend classes in Django's ``TASKS`` setting."""
    from django.conf import settings

    aliases: Mapping[str, Mapping[str, Any]] = getattr(settings, "TASKS", {})
    return [str(options["BACKEND"]) for options in aliases.values() if "BACKEND" in options]
