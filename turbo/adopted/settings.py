"""A Celery app's configuration under turbo's names: read once, written through.

Built by ``adopted.app`` in the command, before anything is forked. What turbo's own code decides by is read from
here; what Celery's code decides by it reads from the app, which hears of every change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.adopted import broker
from turbo.adopted import setting_support as honoured
from turbo.adopted import unsupported as left_out
from turbo.app.conf.addresses import whole_broker_urls
from turbo.app.conf.conf import Settings, canonical
from turbo.app.conf.settings import SETTINGS
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celery import Celery


class AdoptedSettings(Settings):
    """The settings that somebody made in a Celery app."""

    def __init__(self, app: Celery) -> None:
        super().__init__(source=_explicit(app))
        object.__setattr__(self, "_app", app)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.__dict__["_app"].conf[canonical(name)] = self[name]

    def read_again(self) -> None:
        """Something may have changed the app's own configuration: take that over."""
        self.use(_explicit(self.__dict__["_app"]))

    def check_supported(self) -> list[str]:
        """Return at most one warning, which names all that the app asks for and this worker has not.

        Raises ImproperlyConfigured, naming all of them, for settings and tasks that must not be ignored.
        """
        idle, refused = [], left_out.refused(self.__dict__["_app"])
        for name in honoured.celerys():
            honour = honoured.honour(name)
            # What Celery's code reads is Celery's to judge, also whether the value is of the right type.
            if not honour.reason or not self.is_set(name) or not SETTINGS[name].is_missed(self[name]):
                continue
            if honour.by is honoured.By.REFUSED:
                refused.append(f"{name}={self[name]!r} is not supported: {honour.reason}")
            else:
                idle.append(f"{name} ({honour.reason})")
        if refused:
            raise ImproperlyConfigured("; ".join(refused))
        idle += left_out.left_out(self.__dict__["_app"])
        return [f"without effect in this worker: {'; '.join(idle)}"] if idle else []


def _explicit(app: Celery) -> dict[str, Any]:
    """What somebody set, by today's names, whatever name and prefix it was set by."""
    conf = app.conf
    conf.finalize()
    layers = conf.maps[:-1]
    found = {}
    for name in SETTINGS:
        names = conf._to_keys(name)  # Celery has no public way to ask whether a setting was made before 5.7
        if any(key in layer for layer in layers for key in names):
            found[name] = conf[name]
    for name in ("broker_url", "result_backend", "timezone"):
        # These three have fall-backs of their own: old names, the environment, Django's time zone.
        value = getattr(conf, name)
        if value:
            found[name] = value
    found["broker_read_url"] = whole_broker_urls(conf.broker_read_url, conf)
    found["broker_write_url"] = whole_broker_urls(conf.broker_write_url, conf)
    found["broker_use_ssl"] = broker.tls(conf.broker_use_ssl, found["broker_read_url"])
    return found
