"""Sends events of a program's own to monitors.

Made by ``app.events``. Publishes by the app's publisher, or through the master in a worker's child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from turbo import current
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turbo.events.interfaces import EventApp


class EventDispatcher:
    """A sender of events.

    ``groups``: the first words of the types to send (``custom``, ``task``); by default all are sent. With
    ``buffer_while_offline``, events that cannot be published are kept for :meth:`flush`. ``connection`` and ``channel``
    are accepted and not used: the app's own connections are.
    """

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        buffer_while_offline: bool = True,
        app: EventApp | None = None,
        serializer: str | None = None,
        groups: Iterable[str] | None = None,
    ) -> None:
        self.app: EventApp = app or current.current_app()
        self.hostname = hostname
        self.enabled = enabled
        self.groups = frozenset(groups or ())
        self.buffer_while_offline = buffer_while_offline
        self.on_enabled: set[Callable[[], object]] = set()
        self.on_disabled: set[Callable[[], object]] = set()
        self._unsent: list[tuple[str, dict[str, Any]]] = []

    def enable(self) -> None:
        """Send from now on."""
        self.enabled = True
        for callback in self.on_enabled:
            callback()

    def disable(self) -> None:
        """Send nothing from now on."""
        if self.enabled:
            self.enabled = False
            for callback in self.on_disabled:
                callback()

    def send(
        self,
        type: str,
        blind: bool = False,
        retry: bool = False,
        retry_policy: Mapping[str, object] | None = None,
        **fields: Any,
    ) -> None:
        """Send one event. ``blind`` is accepted for compatibility.

        Raises EncodeError, and without ``buffer_while_offline`` OperationalError.
        """
        if not self.enabled or (self.groups and type.partition("-")[0] not in self.groups):
            return
        if self.hostname is not None:
            fields.setdefault("hostname", self.hostname)
        try:
            self.app.send_event(type, fields, retry, retry_policy)
        except OperationalError:
            if not self.buffer_while_offline:
                raise
            self._unsent.append((type, fields))

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what could not be published. Raises OperationalError; what is left is kept."""
        while errors and self._unsent:
            kind, fields = self._unsent[0]
            self.app.send_event(kind, fields)
            del self._unsent[0]

    def close(self) -> None:
        """Do nothing: the connections are the app's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
