"""The periodic tasks of an app, and the signals by which programs add them.

A base class of ``Turbo``. The entries are in the setting ``beat_schedule``, which ``turbo.beat`` reads; here nothing is
sent.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from turbo.app.canvas.signature import Signature
from turbo.app.conf.configured import Configured
from turbo.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger("turbo.app")


class OnceSignal(Signal):
    """A signal that is sent once.

    A receiver that connects later is called at once, which Celery never does.
    """

    _sent: tuple[Any, dict[str, Any]] | None = None

    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call the receivers, the first time."""
        if self._sent is not None:
            return []
        self._sent = (sender, named)
        return super().send(sender, **named)

    def _connect(self, receiver: Any, *args: Any, **options: Any) -> Any:
        connected = super()._connect(receiver, *args, **options)
        if self._sent is not None:
            late = Signal(name=self.name)
            late.connect(receiver, *args, **options)
            sender, named = self._sent
            late.send(sender, **named)
        return connected


class Periodic(Configured):
    """The periodic tasks of an app."""

    def __init__(self, changes: Mapping[str, Any], source: object, namespace: str | None, silent: bool) -> None:
        #: Sent when the configuration has been read, with the argument ``source``: the configuration.
        self.on_after_configure = OnceSignal(name="app.on_after_configure", providing_args={"source"})
        #: Sent when all tasks are complete.
        self.on_after_finalize = OnceSignal(name="app.on_after_finalize")
        self._pending: list[tuple[str, dict[str, Any], bool]] = []
        self._pending_lock = threading.RLock()
        super().__init__(changes, source, namespace, silent)

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to ``beat_schedule`` and return its name.

        ``schedule`` is seconds, a timedelta or one of ``turbo.schedules``; ``sig`` a signature or a task; ``opts`` are
        options of ``apply_async``. Without a name, the entry is named after the call, and a second one with the same
        call replaces it.
        """
        call = sig.clone(args, kwargs or {}) if isinstance(sig, Signature) else _call(sig, args, kwargs)
        key = name or repr(call)
        entry = {
            "schedule": schedule,
            "task": call["task"],
            "args": call["args"],
            "kwargs": call["kwargs"],
            "options": {**call["options"], **opts},
        }
        with self._pending_lock:
            if not self.conf.loaded:
                # The configuration object may be a module that is being imported.
                self._pending.append((key, entry, name is not None))
                return key
        self._put(key, entry, named=name is not None)
        return key

    def on_configured(self) -> None:
        """Add the waiting entries, and send ``on_after_configure``."""
        with self._pending_lock:
            pending, self._pending = self._pending, []
        for key, entry, named in pending:
            self._put(key, entry, named=named)
        self.on_after_configure.send(sender=self, source=self.conf)

    def _put(self, key: str, entry: dict[str, Any], *, named: bool) -> None:
        schedule = self.conf["beat_schedule"]
        if not named and key in schedule:
            logger.warning("The periodic task %s replaces another one; give each a name to keep both", key)
        schedule[key] = entry


def _call(task: Any, args: Iterable[Any], kwargs: Mapping[str, Any] | None) -> Signature:
    return Signature(task.name, tuple(args), kwargs or {})
