"""``self.request``: what a running task can know about the message that started it.

Made by the child's executor once per task, from the decoded message, and by ``Task.__call__`` for direct
calls. It is created far more often than it is read, so it holds the message and works out attributes when
asked. It must never decode a message, nor talk to anybody.
"""

# The descriptors below are parts of Context and read its slots.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from turbo.policy.poison import deaths
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.republishing import DEATH_HEADERS
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from turbo.protocol.message import TaskMessage

#: Names that are no attributes of the request and yet not the user's own headers.
_PROTOCOL_NAMES: Final = frozenset({"lang", "task", "argsrepr", "kwargsrepr", "compression", "meth"})
#: Those of them that a task may ask its request for all the same.
_TEXTS: Final = frozenset({"argsrepr", "kwargsrepr", "lang"})


class _OfMessage:
    """An attribute read from the message when asked. Not a data descriptor: a value set on the request
    wins.
    """

    __slots__ = ("default", "name")

    def __init__(self, default: object) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        return getattr(request._message, self.name)


class _Time(_OfMessage):
    """A point in time: the text that was sent, in whichever of ISO 8601's forms."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        headers = request._message.properties.headers
        sent = headers.get(self.name) if headers else None
        if isinstance(sent, str):
            return sent
        when = getattr(request._message, self.name)
        return None if when is None else when.isoformat()


class _Stamps(_OfMessage):
    """Stamps by their names; empty where the message has room for stamps and none, None where it has no room."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        stamps = request._message.stamps
        if stamps is None and (request._message.properties.headers or {}).get("stamps") is not None:
            return {}
        return stamps


class _Headers(_OfMessage):
    """The user's own headers, or None. A mapping that the program may change, so it is kept."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        headers = request._message.headers
        request.__dict__["headers"] = headers
        return headers


class _CalledDirectly(_OfMessage):
    """True unless a message made this request."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> bool:
        return request is None or request._message is None


class _Limit(_OfMessage):
    """One half of ``timelimit``."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__(None)
        self.index = index

    def __get__(self, request: Context | None, owner: type) -> Any:
        limits = None if request is None else request.timelimit
        return limits[self.index] if isinstance(limits, (list, tuple)) and len(limits) > self.index else None


class _DeliveryInfo(_OfMessage):
    """Where the message came from: exchange, routing_key, priority, redelivered."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        exchange, routing_key, redelivered = _origin(request._delivery)
        info = {
            "exchange": exchange,
            "routing_key": routing_key,
            "priority": request._message.properties.priority,
            # After the death of a child it comes as a copy, which the broker has not seen before.
            "redelivered": redelivered or deaths(request._message.properties.headers) > 0,
        }
        # The program may keep and change it, so from now on it is this request's own.
        request.__dict__["delivery_info"] = info
        return info


class _Properties(_OfMessage):
    """The message's AMQP properties that were set, as a mapping."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        properties = request._message.properties
        names = (
            "content_type",
            "content_encoding",
            "delivery_mode",
            "priority",
            "correlation_id",
            "reply_to",
            "expiration",
            "message_id",
            "timestamp",
            "type",
            "user_id",
            "app_id",
            "cluster_id",
        )
        found = {name: getattr(properties, name) for name in names if getattr(properties, name) is not None}
        found["application_headers"] = properties.headers
        request.__dict__["properties"] = found
        return found


def _of_message(default: object = None) -> Any:
    return _OfMessage(default)


def _made_by(descriptor: _OfMessage) -> Any:
    return descriptor


class Context:
    """The request of one run of a task. Attributes can be set freely; those of custom headers can be read.

    ``Context(id=…, retries=…)`` makes one from keywords, as tests do; :meth:`from_message` is the worker's
    way.
    """

    __slots__ = ("__dict__", "_call_claimed", "_children", "_delivery", "_message")

    _message: TaskMessage | None
    #: The arguments of its basic.deliver, which few tasks ask about.
    _delivery: bytes
    _children: list[Any] | None
    _call_claimed: bool

    id: str | None = _of_message()
    args: Any = _of_message()
    kwargs: Any = _of_message()
    retries: int = _of_message(0)
    called_directly: bool = _made_by(_CalledDirectly(True))
    is_eager: bool = False
    delivery_info: dict[str, Any] | None = _made_by(_DeliveryInfo(None))
    properties: dict[str, Any] | None = _made_by(_Properties(None))
    headers: dict[str, Any] | None = _made_by(_Headers(None))
    hostname: str | None = None
    correlation_id: str | None = _of_message()
    reply_to: str | None = _of_message()
    origin: str | None = _of_message()
    root_id: str | None = _of_message()
    parent_id: str | None = _of_message()
    group: str | None = _of_message()
    group_index: int | None = _of_message()
    taskset: str | None = None
    chord: Any = _of_message()
    chain: list[Any] | None = _of_message()
    callbacks: list[Any] | None = _of_message()
    errbacks: list[Any] | None = _of_message()
    eta: str | None = _made_by(_Time(None))
    expires: str | None = _made_by(_Time(None))
    timelimit: list[float | None] | None = _of_message()
    time_limit: float | None = _made_by(_Limit(0))
    soft_time_limit: float | None = _made_by(_Limit(1))
    #: None when the message does not say: the task's own option holds then.
    ignore_result: bool | None = _of_message(False)
    replaced_task_nesting: int = _of_message(0)
    shadow: str | None = _of_message()
    stamped_headers: list[str] | None = _of_message()
    stamps: dict[str, Any] | None = _made_by(_Stamps(None))
    task: str | None = _of_message()
    #: Celery's is None for every message too; what one of protocol 1 says has been applied to its times.
    utc: bool | None = None
    logfile: str | None = None
    loglevel: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._message = None
        self._children = None
        self._call_claimed = False
        self.update(*args, **kwargs)
        if self.headers is None:
            own = {
                k: v for k, v in dict(*args, **kwargs).items() if k not in _PROTOCOL_NAMES and not hasattr(Context, k)
            }
            self.headers = own or None

    @classmethod
    def from_message(cls, message: TaskMessage, deliver: bytes, hostname: str) -> Context:
        """Make the request of a delivered message.

        ``deliver`` are the arguments of its basic.deliver, ``hostname`` is the worker's node name.
        """
        request = cls.__new__(cls)
        request._message = message
        request._delivery = deliver
        request._children = None
        request._call_claimed = False
        request.hostname = hostname
        return request

    def __getattr__(self, name: str) -> Any:
        """Custom headers are attributes too, and what a producer says in a header that is nothing else."""
        if name in _TEXTS and self._message is not None and (text := getattr(self._message, name)) is not None:
            return text
        if not name.startswith("_"):
            headers = self.headers
            if headers is not None and name in headers:
                return headers[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several attributes, from a mapping, pairs or keywords."""
        given = dict(*args, **kwargs)
        for name, value in given.items():
            setattr(self, name, value)

    def clear(self) -> None:
        """Forget every attribute that was set."""
        self.__dict__.clear()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute or custom header, or ``default``."""
        return getattr(self, name, default)

    def claim_call(self) -> bool:
        """Answer True once, for a worker's request: whoever runs the body on its behalf asks."""
        if self._call_claimed or self.called_directly:
            return False
        self._call_claimed = True
        return True

    @property
    def children(self) -> list[Any]:
        """Results of the tasks that this run has sent."""
        if self._children is None:
            self._children = []
        return self._children

    @property
    def has_children(self) -> bool:
        """Whether this run has sent any task; asking does not make the list."""
        return bool(self._children)

    @property
    def explicit_ignore_result(self) -> bool | None:
        """What the message or the program said about ignoring the result; None: nothing, ask the task."""
        if self._message is None and "ignore_result" not in self.__dict__:
            return None
        return self.ignore_result

    def as_execution_options(self) -> dict[str, Any]:
        """Return the options of ``apply_async`` that send this very call again, except its destination."""
        hard, soft = self.timelimit or (None, None)
        options: dict[str, Any] = {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": soft,
            "time_limit": hard,
            "headers": {k: v for k, v in (self.headers or {}).items() if k not in DEATH_HEADERS},
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "origin": self.origin,
        }
        if self.stamped_headers is not None and isinstance(self.stamps, Mapping):
            options["stamped_headers"] = self.stamped_headers
            options.update({k: v for k, v in self.stamps.items() if k in self.stamped_headers})
        return options

    def as_dict(self) -> dict[str, Any]:
        """Return every attribute by its name."""
        names = [name for name, value in vars(Context).items() if isinstance(value, _OfMessage)]
        return {name: getattr(self, name) for name in names} | self.__dict__

    def __repr__(self) -> str:
        return f"<Context: {self.as_dict()!r}>"


def _origin(deliver: bytes) -> tuple[str, str, bool]:
    """Exchange, routing key and redelivered flag of a delivery."""
    try:
        found = parse_deliver(deliver)
    except TableError:
        return "", "", False
    return found.exchange, found.routing_key, found.redelivered
