"""Routes a call: computes its destination from options, routes and queues.

Called by ``app.publish.sending`` for every message; looks queues up in ``app.publish.queues``. No I/O of its own;
routers are functions of the program. Precedence: the call's options, then the route, then the default queue.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from turbo.amqp.delayed_delivery import LEVELS, delayed_key, delays_for, level_name, uses_cascade
from turbo.app.conf.loading import import_symbol
from turbo.app.publish.queues import Queues, queue_from
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from turbo.amqp.topology import Queue

Router = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to publish a message.

    ``declare`` lists the queues to declare first. ``delivery_mode`` is None when neither call nor exchange sets one.
    """

    exchange: str
    routing_key: str
    declare: tuple[Queue, ...] = ()
    delivery_mode: int | str | None = None
    queue_name: str | None = None


class MapRoute:
    """Routes by task name.

    Exact names come first, then globs (keys with ``*``) and compiled patterns in order.
    """

    def __init__(self, routes: Any) -> None:
        self._exact: dict[str, Any] = {}
        self._patterns: list[tuple[re.Pattern[str], Any]] = []
        for key, route in routes.items() if isinstance(routes, Mapping) else routes:
            if isinstance(key, re.Pattern):
                self._patterns.append((key, route))
            elif "*" in key:
                self._patterns.append((re.compile(fnmatch.translate(key)), route))
            else:
                self._exact[key] = route

    def __call__(self, name: str, *_: Any, **__: Any) -> dict[str, Any] | None:
        """Return the route of ``name`` as options, or None."""
        if name in self._exact:
            return _as_options(self._exact[name])
        for pattern, route in self._patterns:
            if pattern.match(name):
                return _as_options(route)
        return None


def _as_options(route: Any) -> dict[str, Any]:
    return dict(route) if isinstance(route, Mapping) else {"queue": route}


def prepare_routes(setting: Any) -> list[Router]:
    """Return the routers in ``task_routes``.

    They are mappings, lists of pairs, callables, or import paths of these. Raises ImproperlyConfigured for anything
    else.
    """
    if setting is None:
        return []
    several = isinstance(setting, Sequence) and not isinstance(setting, str)
    return [_router(entry) for entry in (setting if several else (setting,))]


def _router(entry: Any) -> Router:
    if isinstance(entry, str):
        entry = import_symbol(entry)
        if isinstance(entry, type):
            entry = entry()
    if isinstance(entry, (Mapping, list, tuple)):
        return MapRoute(entry)
    old_style = getattr(entry, "route_for_task", None)
    if old_style is not None:
        return lambda name, args, kwargs, options, task=None: old_style(name, args, kwargs)
    if not callable(entry):
        raise ImproperlyConfigured(f"task_routes: {entry!r} is neither a mapping nor a router")
    router: Router = entry
    return router


class TaskRouter:
    """Routes the calls of one app. Made again after each change of the settings."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        self.queues = Queues(conf)
        self._routes = prepare_routes(conf["task_routes"])
        self._default_name: str = conf["task_default_queue"]
        self._default_exchange: str = conf["task_default_exchange"] or ""
        self._default_key: str = conf["task_default_routing_key"] or ""
        self._delay_queue_type: str = conf["broker_native_delayed_delivery_queue_type"]

    def route(
        self, options: Mapping[str, Any], name: str, args: Any = (), kwargs: Any = None, task: Any = None
    ) -> dict[str, Any]:
        """Return ``options`` completed by the task's route; its ``queue`` is a Queue.

        Raises QueueNotFound for an unknown queue if ``task_create_missing_queues`` is off.
        """
        given = self._expand(options)
        for router in self._routes:
            found = router(name, args, kwargs or {}, given, task=task)
            if found:
                return self._expand(_as_options(found)) | _set(given)
            if found is not None:
                break
        if "queue" not in given:
            given["queue"] = self.queues[self._default_name]
        return given

    def _expand(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of ``options`` with the Queue in place of the queue's name.

        An empty ``queue`` is removed.
        """
        expanded = dict(options)
        queue = expanded.pop("queue", None)
        if isinstance(queue, str) and queue:
            expanded["queue"] = self.queues[queue]
        elif queue:
            expanded["queue"] = queue_from(queue)
        return expanded

    def destination(self, options: Mapping[str, Any]) -> Destination:
        """Return the destination of a call with these routed options.

        A call to a direct exchange is published to the queue through the default exchange, unless both exchange and
        routing key were given. Raises ImproperlyConfigured for an exchange without a routing key.
        """
        queue: Queue | None = options.get("queue")
        exchange = options.get("exchange")
        routing_key = options.get("routing_key")
        if queue is None and exchange is None:
            queue = self.queues[self._default_name]
        if exchange is not None and not isinstance(exchange, str):
            exchange = exchange.name
        kind = options.get("exchange_type") or (queue.exchange.type if queue else "direct")
        if (not exchange or not routing_key) and kind == "direct":
            if queue is None:
                raise ImproperlyConfigured(f"a call to the exchange {exchange!r} needs a routing_key")
            exchange, routing_key = "", queue.name
        elif exchange is None:
            exchange = (queue.exchange.name if queue else "") or self._default_exchange
            routing_key = routing_key or (queue.routing_key if queue else "") or self._default_key
        mode = options.get("delivery_mode")
        if mode is None and queue is not None:
            mode = self.queues.delivery_modes.get(queue.name)
        declare = options.get("declare")
        if declare is None:
            # Each consumer declares its own broadcast queue.
            declare = () if queue is None or queue.name.startswith("bcast.") else (queue,)
        return Destination(
            exchange, routing_key or "", tuple(map(queue_from, declare)), mode, queue.name if queue else None
        )

    def delayed(self, to: Destination, queue: Queue, seconds: float) -> Destination:
        """Return the destination at which the broker delays a message by ``seconds``.

        Returns ``to`` if it cannot. As in Celery, this applies to quorum queues behind an exchange that is not direct,
        because their workers cannot hold an unlimited number of messages. A worker gets the message up to a
        second early and waits for the rest.
        """
        key = delayed_key(seconds, to.routing_key)
        if key is None or to.exchange != queue.exchange.name or not uses_cascade(queue):
            return to
        delays = delays_for(queue, self._delay_queue_type)
        return replace(to, exchange=level_name(LEVELS - 1), routing_key=key, declare=(*to.declare, delays))


def _set(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
