"""A Celery app's configuration under turbo's names: read once, written through.

Built by ``adopted.app`` in the command, before anything is forked. What turbo's own code decides by is read from
here; what Celery's code decides by it reads from the app, which hears of every change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turbo.app.conf import Settings, canonical
from turbo.app.setting import Status
from turbo.app.settings import SETTINGS

if TYPE_CHECKING:
    from celery import Celery

#: Settings that a worker's own machinery reads; all others are read by Celery's code, which runs here as it is.
_WORKERS: Final = ("worker_", "broker_", "control_", "event_")


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
        """Return one warning that names the settings of a worker that have no effect here. Refuses none."""
        idle = []
        for name, setting in SETTINGS.items():
            if not name.startswith(_WORKERS) or not self.is_set(name) or setting.status is Status.WORKS:
                continue
            value = self[name]
            if value and value != setting.default and value not in setting.harmless:
                idle.append(f"{name} ({setting.reason})")
        return [f"settings without effect in this worker: {'; '.join(idle)}"] if idle else []


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
    return found
