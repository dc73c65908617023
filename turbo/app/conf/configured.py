"""The part of an app that names its configuration sources, and its time zone.

A base class of ``Turbo``, in clients and workers. ``app.conf.conf`` reads the sources.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from turbo.app.conf.conf import Settings
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Configured:
    """Configuration methods of an app; the settings are in ``conf``."""

    def __init__(self, changes: Mapping[str, Any], source: object, namespace: str | None, silent: bool) -> None:
        self.conf = Settings(
            changes,
            source=source,
            namespace=namespace,
            silent=silent,
            on_load=self.on_configure,
            on_loaded=self.on_configured,
        )

    def on_configure(self) -> None:
        """Called just before the configuration object is imported.

        Does nothing unless overridden.
        """

    def on_configured(self) -> None:
        """Called after the configuration object was imported."""

    def config_from_object(
        self, obj: object, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Use a mapping, module or object (or its import path) as configuration.

        It is imported when a setting is first read, or now with ``force``. ``namespace`` is the prefix of its names.
        With ``silent``, an object that cannot be imported counts as empty.
        """
        self.conf.use(obj, namespace=namespace, silent=silent)
        if force:
            self.conf.get("broker_url")

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Use the module that an environment variable names as the configuration object.

        Raises ImproperlyConfigured when the variable is unset or empty, unless ``silent``.
        """
        name = os.environ.get(variable_name)
        if name:
            self.config_from_object(name, silent=silent, force=force, namespace=namespace)
        elif not silent:
            raise ImproperlyConfigured(
                f"The environment variable {variable_name!r} is not set,\n"
                "and as such the configuration could not be loaded."
            )

    def add_defaults(self, defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add defaults for settings that the app does not set itself.

        ``defaults`` is a mapping, or a function that returns one.
        """
        self.conf.add_defaults(defaults() if callable(defaults) else defaults)

    @property
    def timezone(self) -> tzinfo:
        """The setting ``timezone``.

        If unset UTC, or the machine's zone with ``enable_utc`` off.
        """
        name = self.conf["timezone"]
        if isinstance(name, tzinfo):
            return name
        if name and str(name).upper() != "UTC":
            from zoneinfo import ZoneInfo  # 0.2 MB that UTC does not need

            return ZoneInfo(name)
        if name or self.conf["enable_utc"]:
            return UTC
        local = datetime.now().astimezone().tzinfo
        return UTC if local is None else local

    def now(self) -> datetime:
        """Return the current time as an aware datetime.

        It is in UTC, or in :attr:`timezone` with ``enable_utc`` off.
        """
        now = datetime.now(UTC)
        return now if self.conf["enable_utc"] else now.astimezone(self.timezone)
