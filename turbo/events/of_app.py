"""``app.events``: the classes of ``turbo.events``, made for one app."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from turbo.events.dispatcher import EventDispatcher
from turbo.events.receiver import EventReceiver
from turbo.events.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turbo.events.interfaces import EventApp


class Events:
    """The events of one app's broker."""

    def __init__(self, app: EventApp) -> None:
        self.app = app

    def Receiver(self, channel: Any = None, *args: Any, **kwargs: Any) -> EventReceiver:
        """Return a receiver with a connection to the broker of ``channel``, or of the app."""
        return EventReceiver(channel, *args, **{"app": self.app, **kwargs})

    def Dispatcher(self, *args: Any, **kwargs: Any) -> EventDispatcher:
        """Return a sender of events."""
        return EventDispatcher(*args, **{"app": self.app, **kwargs})

    def State(self, *args: Any, **kwargs: Any) -> State:
        """Return the state of a cluster, which is made of its events."""
        return State(*args, **kwargs)

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[EventDispatcher]:
        """Yield a sender of events that uses the app's own connections."""
        with self.Dispatcher(None, hostname, enabled, buffer_while_offline=buffer_while_offline) as dispatcher:
            yield dispatcher
