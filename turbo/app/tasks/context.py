"""``Context``: the object behind ``self.request``.

Made once per task by the child's executor from the decoded message, and by ``Task.__call__`` for direct calls. Most
tasks never read it, so it holds the message and computes attributes on access. It must never decode a message or do
I/O.
"""

# The descriptors below belong to Context and read its slots.
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

#: Names of protocol headers that are not attributes of the request.
_PROTOCOL_NAMES: Final = frozenset({"lang", "task", "argsrepr", "kwargsrepr", "compression", "meth"})
#: Those of ``_PROTOCOL_NAMES`` that can be read from the request if the message has them.
_TEXTS: Final = frozenset({"argsrepr", "kwargsrepr", "lang"})


class _OfMessage:
    """An attribute read from the message on access.

    It is not a data descriptor, so a value that was set on the request takes precedence.
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
    """A point in time, as the ISO 8601 text that was sent."""

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
    """Stamps by their names.

    Empty if the message's ``stamps`` header is empty, None without that header.
    """

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        stamps = request._message.stamps
        if stamps is None and (request._message.properties.headers or {}).get("stamps") is not None:
            return {}
        return stamps


class _Headers(_OfMessage):
    """The custom headers, or None.

    Stored on the request when first read, because the program may change them.
    """

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        headers = request._message.headers
        request.__dict__["headers"] = headers
        return headers


class _CalledDirectly(_OfMessage):
    """True unless the request was made from a message."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> bool:
        return request is None or request._message is None


class _Limit(_OfMessage):
    """One of the two items of ``timelimit``."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__(None)
        self.index = index

    def __get__(self, request: Context | None, owner: type) -> Any:
        limits = None if request is None else request.timelimit
        return limits[self.index] if isinstance(limits, (list, tuple)) and len(limits) > self.index else None


class _DeliveryInfo(_OfMessage):
    """The message's exchange, routing_key, priority and redelivered, as a dict."""

    __slots__ = ()

    def __get__(self, request: Context | None, owner: type) -> Any:
        if request is None or request._message is None:
            return self.default
        exchange, routing_key, redelivered = _origin(request._delivery)
        info = {
            "exchange": exchange,
            "routing_key": routing_key,
            "priority": request._message.properties.priority,
            # After a child's death the message is published again as a copy that the broker does not flag.
            "redelivered": redelivered or deaths(request._message.properties.headers) > 0,
        }
        # Stored on the request, because the program may keep and change it.
        request.__dict__["delivery_info"] = info
        return info


class _Properties(_OfMessage):
    """The AMQP properties that the message sets, as a dict."""

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
    """The request of one run of a task.

    Any attribute can be set; custom headers can be read as attributes. ``Context(id=…, retries=…)`` makes one from
    keywords, as tests do; workers use :meth:`from_message`.
    """

    __slots__ = ("__dict__", "_call_claimed", "_children", "_delivery", "_message")

    _message: TaskMessage | None
    #: The encoded arguments of the message's basic.deliver; decoded on access, since few tasks read them.
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
    #: None when the message does not set it; then the task's own option applies.
    ignore_result: bool | None = _of_message(False)
    replaced_task_nesting: int = _of_message(0)
    shadow: str | None = _of_message()
    stamped_headers: list[str] | None = _of_message()
    stamps: dict[str, Any] | None = _made_by(_Stamps(None))
    task: str | None = _of_message()
    #: None for every message, as in Celery; the ``utc`` of a protocol 1 message has been applied to its times.
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

        ``deliver`` holds the encoded arguments of its basic.deliver; ``hostname`` is the worker's node name.
        """
        request = cls.__new__(cls)
        request._message = message
        request._delivery = deliver
        request._children = None
        request._call_claimed = False
        request.hostname = hostname
        return request

    def __getattr__(self, name: str) -> Any:
        """Return a custom header, or one of the ``_TEXTS`` headers if the message has it."""
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
        """Remove every attribute that was set on the request."""
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute or custom header, or ``default``."""
        return getattr(self, key, default)

    def claim_call(self) -> bool:
        """Return True the first time for a worker's request, then False.

        Code that runs the body calls this to find out whether this call of the task is the worker's own run.
        """
        if self._call_claimed or self.called_directly:
            return False
        self._call_claimed = True
        return True

    @property
    def children(self) -> list[Any]:
        """The results of the tasks that this run has sent."""
        if self._children is None:
            self._children = []
        return self._children

    @property
    def has_children(self) -> bool:
        """Whether this run has sent any task; does not create the list of ``children``."""
        return bool(self._children)

    @property
    def explicit_ignore_result(self) -> bool | None:
        """``ignore_result`` as the message or the program set it.

        None when unset, then the task's option applies.
        """
        if self._message is None and "ignore_result" not in self.__dict__:
            return None
        return self.ignore_result

    def as_execution_options(self) -> dict[str, Any]:
        """Return the options that send this call again, without its destination."""
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
        """Return all attributes as a dict."""
        names = [name for name, value in vars(Context).items() if isinstance(value, _OfMessage)]
        return {name: getattr(self, name) for name in names} | self.__dict__

    def __repr__(self) -> str:
        return f"<Context: {self.as_dict()!r}>"


def _origin(deliver: bytes) -> tuple[str, str, bool]:
    """Return the exchange, routing key and redelivered flag of a delivery.

    Defaults if it cannot be decoded.
    """
    try:
        found = parse_deliver(deliver)
    except TableError:
        return "", "", False
    return found.exchange, found.routing_key, found.redelivered
