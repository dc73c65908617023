"""The queues of an app: configured, created on demand, and consumed by a worker.

Built from settings; read by the router for every call and by the worker once at start. Values are
``amqp.topology.Queue``; kombu's objects are read by their attributes. Does not connect to a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from turbo.amqp.topology import Binding, Exchange, Queue, queue_arguments, task_queue
from turbo.exceptions import ImproperlyConfigured, QueueNotFound


def exchange_from(given: Any) -> Exchange:
    """Return an ``amqp.topology.Exchange``.

    ``given`` is a name, an Exchange, or an object with the attributes of kombu's.
    """
    if isinstance(given, Exchange):
        return given
    if given is None or isinstance(given, str):
        return Exchange(given or "")
    return Exchange(
        given.name or "",
        given.type or "direct",
        bool(given.durable),
        bool(given.auto_delete),
        dict(given.arguments or {}),
        bool(getattr(given, "no_declare", False)),
    )


def queue_from(given: Any) -> Queue:
    """Return an ``amqp.topology.Queue``.

    ``given`` is such a Queue or an object with the attributes of kombu's.
    """
    if isinstance(given, Queue):
        return given
    return Queue(
        given.name,
        exchange_from(given.exchange),
        given.routing_key or "",
        bool(given.durable),
        bool(given.exclusive),
        bool(given.auto_delete),
        queue_arguments(
            given.queue_arguments,
            expires=given.expires,
            message_ttl=given.message_ttl,
            max_length=given.max_length,
            max_length_bytes=given.max_length_bytes,
            max_priority=given.max_priority,
        ),
        dict(given.binding_arguments or {}),
        tuple(
            Binding(exchange_from(b.exchange), b.routing_key or "", dict(b.arguments or {}))
            for b in sorted(given.bindings or (), key=lambda b: str(b.routing_key))
        ),
        dict(given.consumer_arguments or {}),
        bool(getattr(given, "no_declare", False)),
    )


def queue_from_options(name: str, options: Mapping[str, Any]) -> Queue:
    """Return the queue that ``task_queues = {name: options}`` describes."""

    def either(first: str, second: str, default: bool) -> bool:
        value = options.get(first)
        value = options.get(second) if value is None else value
        return default if value is None else bool(value)

    key = options.get("binding_key") or options.get("routing_key") or name
    exchange = Exchange(
        options.get("exchange") or "",
        options.get("exchange_type") or "direct",
        either("exchange_durable", "durable", True),
        either("exchange_auto_delete", "auto_delete", False),
        dict(options.get("exchange_arguments") or {}),
    )
    exclusive = bool(options.get("exclusive"))
    limits = ("expires", "message_ttl", "max_length", "max_length_bytes", "max_priority")
    return Queue(
        name,
        exchange,
        key,
        either("queue_durable", "durable", True),
        exclusive,
        either("queue_auto_delete", "auto_delete", False) or exclusive,
        queue_arguments(options.get("queue_arguments"), **{k: options[k] for k in limits if options.get(k)}),
        dict(options.get("binding_arguments") or {}),
        consumer_arguments=dict(options.get("consumer_arguments") or {}),
        no_declare=bool(options.get("no_declare")),
    )


def direct_queue(hostname: str) -> Queue:
    """Return the queue of one worker for ``worker_direct``.

    It has Celery's name for this node name.
    """
    return Queue(f"{hostname}.dq2", Exchange("C.dq2"), hostname)


class Queues(dict[str, Queue]):
    """A dict of queue names to queues.

    Looking up an unknown name creates the queue if the settings allow it. Raises QueueNotFound otherwise.
    ``delivery_modes`` holds the delivery modes that exchanges set, by queue name.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        super().__init__()
        self._conf = conf
        #: The names of queues by their aliases.
        self.aliases: dict[str, str] = {}
        self.delivery_modes: dict[str, int | str] = {}
        self._default_exchange = Exchange(conf["task_default_exchange"] or "", conf["task_default_exchange_type"])
        configured = conf["task_queues"]
        if not configured:
            if conf["task_default_queue"]:
                self.add(self._default_queue())
        elif isinstance(configured, Mapping):
            for name, options in configured.items():
                self.add(queue_from_options(name, options) if isinstance(options, Mapping) else options)
        else:
            for queue in configured:
                self.add(queue)
        #: The queues of a worker without -Q: the configured ones, not those created on demand.
        self.configured: tuple[str, ...] = tuple(self)

    def _default_queue(self) -> Queue:
        """Return the default queue, the only one when ``task_queues`` is empty."""
        kind = self._conf["task_default_queue_type"]
        return Queue(
            self._conf["task_default_queue"],
            self._default_exchange,
            self._conf["task_default_routing_key"],
            queue_arguments={"x-queue-type": "quorum"} if kind == "quorum" else {},
        )

    def add(self, given: Any) -> Queue:
        """Add a queue (an ``amqp.topology.Queue``, kombu's, or a name).

        Returns it completed from the settings.
        """
        queue = task_queue(given) if isinstance(given, str) else queue_from(given)
        if not queue.exchange.name and self._default_exchange.name:
            queue = replace(queue, exchange=self._default_exchange)
        if not queue.routing_key:
            queue = replace(queue, routing_key=self._conf["task_default_routing_key"] or "")
        priority = self._conf["task_queue_max_priority"]
        if priority is not None and "x-max-priority" not in queue.queue_arguments:
            queue = replace(queue, queue_arguments={**queue.queue_arguments, "x-max-priority": priority})
        self[queue.name] = queue
        alias = getattr(given, "alias", None)
        if alias:
            self.aliases[alias] = queue.name
        mode = getattr(getattr(given, "exchange", None), "delivery_mode", None)
        if mode:
            self.delivery_modes[queue.name] = mode
        return queue

    def __missing__(self, name: str) -> Queue:
        alias = self.aliases.get(name)
        if alias is not None:
            return self[alias]
        if not self._conf["task_create_missing_queues"]:
            raise QueueNotFound(f"Queue {name!r} missing from task_queues")
        kind = self._conf["task_create_missing_queue_type"]
        if kind not in (None, "classic", "quorum"):
            raise ImproperlyConfigured(f"task_create_missing_queue_type={kind!r} must be classic or quorum")
        return self.add(
            task_queue(
                name,
                queue_type=kind,
                exchange_type=self._conf["task_create_missing_queue_exchange_type"] or "direct",
            )
        )

    def consumed(self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None) -> list[Queue]:
        """Return the queues to consume from: ``include`` or all, less ``exclude``.

        Raises ImproperlyConfigured for an unknown name if ``task_create_missing_queues`` is off.
        """
        names = list(include or ()) or list(self.configured)
        try:
            chosen = {queue.name: queue for queue in map(self.__getitem__, names)}
        except QueueNotFound as exc:
            raise ImproperlyConfigured(
                f"cannot consume from a queue that is not in task_queues: {exc.args[0]}; "
                "add it there or turn task_create_missing_queues on"
            ) from exc
        for name in exclude or ():
            chosen.pop(self.aliases.get(name, name), None)
        return list(chosen.values())
