"""The half of an app that is its configuration, and the clock that depends on it.

Part of ``Turbo``, in clients and workers alike. Reading is ``app.conf.conf``'s work; here are the ways to name a
source.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from turbo.app.conf.conf import Settings
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Configured:
    """Something with settings, in ``conf``."""

    def __init__(self, changes: Mapping[str, Any], source: object, namespace: str | None, silent: bool) -> None:
        self.conf = Settings(changes, source=source, namespace=namespace, silent=silent, on_load=self.on_configure)

    def on_configure(self) -> None:
        """Called just before the configuration object is read; for subclasses."""

    def config_from_object(
        self, obj: object, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take the configuration from a mapping, module, object, or the path of one.

        It is read when first needed; ``force`` reads it now. ``namespace`` is a prefix its names have.
        """
        self.conf.use(obj, namespace=namespace, silent=silent)
        if force:
            self.conf.get("broker_url")

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take the configuration from the module that an environment variable names."""
        name = os.environ.get(variable_name)
        if name:
            self.config_from_object(name, silent=silent, force=force, namespace=namespace)
        elif not silent:
            raise ImproperlyConfigured(
                f"The environment variable {variable_name!r} is not set,\n"
                "and as such the configuration could not be loaded."
            )

    def add_defaults(self, defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Add settings that hold where the program set none."""
        self.conf.add_defaults(defaults() if callable(defaults) else defaults)

    @property
    def timezone(self) -> tzinfo:
        """The zone of the setting ``timezone``; UTC, or the machine's zone with ``enable_utc`` off."""
        name = self.conf["timezone"]
        if isinstance(name, tzinfo):
            return name
        if name and str(name).upper() != "UTC":
            return ZoneInfo(name)
        if name or self.conf["enable_utc"]:
            return UTC
        local = datetime.now().astimezone().tzinfo
        return UTC if local is None else local

    def now(self) -> datetime:
        """The time, aware, in UTC (in :attr:`timezone` with ``enable_utc`` off)."""
        now = datetime.now(UTC)
        return now if self.conf["enable_utc"] else now.astimezone(self.timezone)
