"""Events for programs that watch a cluster: receive them, send them, keep their state. Names as in ``celery.events``.

``app.events`` gives these classes for an app. Nothing here runs in a worker.
"""

from __future__ import annotations

from turbo.events.dispatcher import EventDispatcher
from turbo.events.of_app import Events
from turbo.events.receiver import EventReceiver

__all__ = ["EventDispatcher", "EventReceiver", "Events"]
