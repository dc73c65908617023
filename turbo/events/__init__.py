"""Events for programs that watch a cluster, by the names of ``celery.events``.

They are received and sent, and their state is kept. ``app.events`` gives these classes for an app. Nothing here runs in
a worker.
"""

from __future__ import annotations

from turbo.events.dispatcher import EventDispatcher
from turbo.events.of_app import Events
from turbo.events.receiver import EventReceiver

__all__ = ["EventDispatcher", "EventReceiver", "Events"]
