"""A Celery app's configuration under turbo's names: read once, written through.

Made by ``adopted.app`` in the command, before anything is forked. turbo's own code reads it. Celery's code reads the
app itself, to which every change is written. It must never hold a value that the app does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.adopted import broker, setting_support, unsupported
from turbo.app.conf.addresses import whole_broker_urls
from turbo.app.conf.conf import Settings, canonical
from turbo.app.conf.settings import SETTINGS
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celery import Celery


class AdoptedSettings(Settings):
    """The explicit settings of a Celery app."""

    def __init__(self, app: Celery) -> None:
        super().__init__(source=_explicit(app))
        object.__setattr__(self, "_app", app)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        conf, key = self.__dict__["_app"].conf, canonical(name)
        conf[key] = self[name]
        # Before 5.7, Celery reads the name with the namespace's prefix first and does not write it.
        conf.changes[conf._to_keys(key)[0]] = self[name]

    def read_again(self) -> None:
        """Read the app's configuration again, after receivers may have changed it."""
        self.use(_explicit(self.__dict__["_app"]))

    def check_supported(self) -> list[str]:
        """Return at most one warning, about everything that has no effect in this worker.

        Raises ImproperlyConfigured, naming all of them, for settings and tasks that must not be ignored.
        """
        idle, refused = [], unsupported.refused(self.__dict__["_app"])
        for name in setting_support.celerys():
            support = setting_support.support(name)
            # Celery checks the settings that its own code reads, including their types.
            if not support.reason or not self.is_set(name) or not SETTINGS[name].is_unsupported(self[name]):
                continue
            if support.by is setting_support.By.REFUSED:
                refused.append(f"{name}={self[name]!r} is not supported: {support.reason}")
            else:
                idle.append(f"{name} ({support.reason})")
        if refused:
            raise ImproperlyConfigured("; ".join(refused))
        idle += unsupported.without_effect(self.__dict__["_app"])
        return [f"without effect in this worker: {'; '.join(idle)}"] if idle else []


def _explicit(app: Celery) -> dict[str, Any]:
    """Return the explicit settings under today's names.

    They may be set by any name and prefix that Celery knows.
    """
    conf = app.conf
    conf.finalize()
    layers = conf.maps[:-1]
    found = {}
    for name in SETTINGS:
        # Celery has no public way to ask whether a setting was made. Before 5.7 _to_keys leaves out the old names.
        names = {*conf._to_keys(name), *(rename(name) for rename in conf._keys or ())}
        if any(key in layer for layer in layers for key in names):
            found[name] = conf[name]
    for name in ("broker_url", "result_backend", "timezone"):
        # These three have other sources too: old names, the environment, Django's time zone.
        value = getattr(conf, name)
        if value:
            found[name] = value
    found["broker_read_url"] = whole_broker_urls(conf.broker_read_url, conf)
    found["broker_write_url"] = whole_broker_urls(conf.broker_write_url, conf)
    found["broker_use_ssl"] = broker.tls(conf.broker_use_ssl, found["broker_read_url"])
    return found
