"""From an app's settings to its beat's turn.

Called by ``native.beat`` and ``adopted.beat``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turbo.amqp.client.leader_queue import LeaderQueue
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.beat.leadership import Leadership
from turbo.beat.turn import SingleBeat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.beat.options import BeatOptions
    from turbo.beat.stop_request import StopRequest
    from turbo.beat.turn import Turn

_MAIN: Final = "__main__"


def leader_queue(conf: Mapping[str, Any], main: str | None, where: str) -> str:
    """Return the name of the queue that elects the app's beat.

    Empty text for no election. By default it is named after the app (``main``, or the module in ``where``) and its
    default queue.
    """
    named: str | None = conf["beat_leader_queue"]
    if named is not None:
        return named
    name = main if main and main != _MAIN else where.partition(":")[0]
    return f"celerybeat.{name}.{conf['task_default_queue']}"


def turn_of(conf: Mapping[str, Any], options: BeatOptions, stop: StopRequest) -> Turn:
    """Return the turn of a beat.

    Raises ImproperlyConfigured for a broker URL that cannot be used.
    """
    if not options.leader_queue:
        return SingleBeat(stop)
    ssl = conf["broker_use_ssl"]
    queue = LeaderQueue(
        parse_broker_urls(conf["broker_write_url"], tls=bool(ssl)),
        tls_options(ssl),
        options.leader_queue,
        conf["task_default_queue_type"],
    )
    return Leadership(queue, stop)
