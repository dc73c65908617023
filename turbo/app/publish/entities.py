"""``Exchange``, ``Queue``, ``binding``, ``Broadcast``: values of ``task_queues``.

They have the arguments and attributes of kombu's classes, so that a program does not need kombu. Made when a
configuration is read, in clients and workers; ``app.publish.queues`` converts them to ``amqp.topology`` values. They
hold no connection and declare nothing.
"""

from __future__ import annotations

import uuid
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DELIVERY_MODES = {"transient": 1, "persistent": 2}


class Exchange:
    """An exchange.

    ``type`` is direct (default), topic, fanout, headers, or one that a plugin of the broker adds. A ``durable``
    exchange (default True) survives a restart of the broker; an ``auto_delete`` exchange (default False) is deleted
    with its last queue. ``delivery_mode`` (2 or "persistent", 1 or "transient"; default: the setting
    ``task_default_delivery_mode``) applies to messages for queues of this exchange. With ``no_declare``, turbo does not
    declare it. Raises ValueError for another delivery mode.
    """

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        delivery_mode: int | str | None = None,
        arguments: Mapping[str, Any] | None = None,
        no_declare: bool = False,
    ) -> None:
        self.name = name
        self.type = type or "direct"
        self.durable = durable
        self.auto_delete = auto_delete
        self.delivery_mode = _DELIVERY_MODES.get(delivery_mode) if isinstance(delivery_mode, str) else delivery_mode
        if delivery_mode and self.delivery_mode not in (1, 2):
            raise ValueError(f"delivery_mode={delivery_mode!r} is neither persistent (2) nor transient (1)")
        self.arguments = dict(arguments or {})
        self.no_declare = no_declare

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Exchange) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Exchange {self.name}({self.type})>"


@dataclass(eq=False)
class binding:
    """A queue's binding to ``exchange``, by routing key or headers.

    ``arguments`` are for headers exchanges: ``{"x-match": "any", "format": "pdf"}``.
    """

    exchange: Exchange | str | None = None
    routing_key: str = ""
    arguments: Mapping[str, Any] | None = None
    unbind_arguments: Mapping[str, Any] | None = None


@dataclass(eq=False)
class Queue:
    """A queue to consume from and send to.

    ``exchange`` is an :class:`Exchange`, the name of a direct one, or a list of :class:`binding`; a queue without one
    gets ``task_default_exchange``. ``expires`` and ``message_ttl`` are seconds, ``max_length`` messages,
    ``max_length_bytes`` bytes, ``max_priority`` 1 to 255. ``queue_arguments`` (``x-queue-type``,
    ``x-dead-letter-exchange`` …) are passed to the broker unchanged, as are ``consumer_arguments`` (``x-priority`` …)
    by a worker's consumer. ``exclusive`` implies ``auto_delete``. ``alias`` is a second name for ``-Q`` and for routes.
    """

    name: str = ""
    exchange: Exchange | str | Iterable[binding] | None = None
    routing_key: str = ""
    _: KW_ONLY
    bindings: Iterable[binding] | None = None
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    queue_arguments: Mapping[str, Any] | None = None
    binding_arguments: Mapping[str, Any] | None = None
    consumer_arguments: Mapping[str, Any] | None = None
    expires: float | None = None
    message_ttl: float | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    max_priority: int | None = None
    no_declare: bool = False
    alias: str | None = None

    def __post_init__(self) -> None:
        self.bindings = list(self.bindings or ())
        if isinstance(self.exchange, str):
            self.exchange = Exchange(self.exchange)
        elif self.exchange is not None and not isinstance(self.exchange, Exchange):
            self.bindings += self.exchange
        if self.bindings:
            self.exchange = None
        if self.exclusive:
            self.auto_delete = True


class Broadcast(Queue):
    """A queue per worker: every worker gets all messages sent to ``name``.

    The queues are on a fanout exchange. ``name`` is the name of the exchange, and the queue's name for -Q and routes.
    The real name of the queue is ``queue``, or generated in each process; ``unique`` appends a generated suffix to
    ``queue``. Further options are those of :class:`Queue`. The queue is deleted with its worker (``auto_delete``).
    """

    def __init__(
        self,
        name: str = "",
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Exchange | None = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        own = f"{queue or 'bcast'}.{uuid.uuid4()}" if unique or not queue else queue
        fanout = Exchange(name, "fanout") if exchange is None else exchange
        super().__init__(own, fanout, auto_delete=auto_delete, alias=alias or name, **options)
