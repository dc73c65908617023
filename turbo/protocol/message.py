"""Task messages: protocol 2, protocol 1 and the mixture of both, to a :class:`TaskMessage`.

Place: after ``protocol.content`` has decoded the body, before the child looks the task up. ``protocol.building`` is
the producers' side. Whatever is wrong with a message raises InvalidTaskError naming the field, and nothing else.
Pure. Source of the formats: features that Celery documents under "Message protocol", and messages captured from
real producers (tests/golden).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import DecodeError, InvalidTaskError
from turbo.protocol import tagged_json
from turbo.protocol.building import build, saferepr

if TYPE_CHECKING:
    from turbo.protocol.properties import Properties

__all__ = ["TaskMessage", "build", "parse", "parse_headers", "parse_time", "saferepr"]

#: Headers of the protocol; every other one is the user's own.
PROTOCOL_HEADERS: Final = frozenset({
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
    "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
    "stamps", "compression", "meth",
})  # fmt: skip
#: Bodies above this size are not decoded just to read the headers of a protocol 1 message.
_V1_PEEK: Final = 1_048_576
_NO_ARGS: Final = ()


class TaskMessage:
    """One decoded task message. Fields that running depends on are checked; the rest is read when asked for."""

    __slots__ = (
        "args",
        "callbacks",
        "chain",
        "chord",
        "correlation_id",
        "errbacks",
        "eta",
        "expires",
        "group",
        "id",
        "ignore_result",
        "kwargs",
        "properties",
        "raw",
        "reply_to",
        "retries",
        "task",
        "timelimit",
        "utc",
    )

    task: str
    id: str
    args: list[Any] | tuple[Any, ...]
    kwargs: dict[str, Any]
    #: ISO 8601 text as it travelled, or None.
    eta: str | None
    expires: str | None
    retries: int
    #: ``[hard, soft]`` in seconds, None where unset.
    timelimit: list[float | None]
    group: str | None
    ignore_result: bool | None
    callbacks: list[Any] | None
    errbacks: list[Any] | None
    chain: list[Any] | None
    chord: Any
    reply_to: str | None
    correlation_id: str | None
    #: None for protocol 2, which is always UTC.
    utc: bool | None
    properties: Properties
    #: Every header as it came.
    raw: dict[str, Any]

    @property
    def headers(self) -> dict[str, Any] | None:
        """The user's own headers, or None."""
        own = {key: value for key, value in self.raw.items() if key not in PROTOCOL_HEADERS}
        return own or None

    @property
    def shadow(self) -> str | None:
        """Another name for logs and events; an empty one counts as none."""
        return self.raw.get("shadow") or None

    @property
    def root_id(self) -> str | None:
        """Id of the first task of this workflow: its own when no header says."""
        return self.raw.get("root_id") or self.id

    @property
    def parent_id(self) -> str | None:
        """Id of the task that sent this one."""
        return self.raw.get("parent_id")

    @property
    def group_index(self) -> int | None:
        """Place within the group."""
        return self.raw.get("group_index")

    @property
    def origin(self) -> str | None:
        """Name of the sending process."""
        return self.raw.get("origin")

    @property
    def argsrepr(self) -> str:
        """Text of the arguments for logs, made here when the producer sent none."""
        text = self.raw.get("argsrepr")
        return text if isinstance(text, str) else saferepr(tuple(self.args))

    @property
    def kwargsrepr(self) -> str:
        """Text of the keyword arguments for logs."""
        text = self.raw.get("kwargsrepr")
        return text if isinstance(text, str) else saferepr(self.kwargs)

    @property
    def replaced_task_nesting(self) -> int:
        """How often the task was replaced."""
        return self.raw.get("replaced_task_nesting") or 0

    @property
    def stamped_headers(self) -> list[str] | None:
        """Names of the stamps."""
        return self.raw.get("stamped_headers")

    @property
    def stamps(self) -> dict[str, Any] | None:
        """Stamps by name."""
        return self.raw.get("stamps")

    @property
    def lang(self) -> str | None:
        """Language of the producer."""
        return self.raw.get("lang")


def parse(properties: Properties, body: object) -> TaskMessage:
    """Make a TaskMessage of decoded properties and body. Raises InvalidTaskError naming what is wrong."""
    headers = properties.headers
    if headers and "task" in headers:
        if isinstance(body, Mapping) and "args" in body:
            return _parse_hybrid(properties, headers, body)
        return _parse_v2(properties, headers, body)
    if isinstance(body, Mapping) and "task" in body:
        return _parse_v1(properties, body)
    raise InvalidTaskError("message names no task: neither a 'task' header nor a body with one")


def parse_headers(properties: Properties, body: bytes) -> TaskMessage:
    """Make a TaskMessage without arguments, for who settles but does not run it.

    Protocol 1 keeps its fields in the body, which is then decoded if it is JSON and not huge. Raises
    InvalidTaskError.
    """
    headers = properties.headers
    if headers and "task" in headers:
        return _parse_v2(properties, headers, (_NO_ARGS, {}, None))
    if properties.content_type != "application/json" or len(body) > _V1_PEEK:
        raise InvalidTaskError("message names no task in its headers, and its body is not looked into")
    try:
        found = tagged_json.loads(body)
    except DecodeError as error:
        raise InvalidTaskError(f"message names no task in its headers, and its body: {error}") from None
    return parse(properties, found)


def _fill(message: TaskMessage, properties: Properties, fields: Mapping[str, Any]) -> None:  # hot: bench trace
    """Check and set what protocols 1 and 2 share."""
    get = fields.get
    task = get("task")
    if type(task) is not str or not task:
        raise InvalidTaskError(f"field 'task' is {_show(task)}, not a name")
    task_id = get("id")
    if type(task_id) is not str or not task_id:
        raise InvalidTaskError(f"field 'id' is {_show(task_id)}, not an id")
    retries = get("retries")
    if retries is None:
        retries = 0
    elif type(retries) is not int or retries < 0:
        raise InvalidTaskError(f"field 'retries' is {_show(retries)}, not a count")
    limits = get("timelimit")
    eta = get("eta")
    if eta is not None and type(eta) is not str:
        eta = _moment_text("eta", eta)
    expires = get("expires")
    if expires is not None and type(expires) is not str:
        expires = _moment_text("expires", expires)
    ignore = get("ignore_result")
    group = get("group")
    message.properties = properties
    message.task = task
    message.id = task_id
    message.retries = retries
    message.timelimit = [None, None] if limits is None or limits == [None, None] else _limits(limits)
    message.eta = eta or None
    message.expires = expires or None
    message.group = group if group is None or type(group) is str else str(group)
    message.ignore_result = ignore if ignore is None or ignore is True or ignore is False else bool(ignore)
    message.reply_to = properties.reply_to or None
    message.correlation_id = properties.correlation_id or None


def _set_call(message: TaskMessage, args: object, kwargs: object) -> None:
    if not isinstance(args, (list, tuple)):
        raise InvalidTaskError(f"arguments are {_show(args)}, not a list")
    if not isinstance(kwargs, dict):
        raise InvalidTaskError(f"keyword arguments are {_show(kwargs)}, not a mapping")
    for key in kwargs:
        if type(key) is not str:
            raise InvalidTaskError(f"keyword argument {_show(key)} has no name")
    message.args = args
    message.kwargs = kwargs


def _parse_v2(properties: Properties, headers: dict[str, Any], body: object) -> TaskMessage:
    if not isinstance(body, (list, tuple)) or len(body) != 3:
        raise InvalidTaskError(f"body is {_show(body)}, not [args, kwargs, embed]")
    message = TaskMessage()
    message.raw = headers
    message.utc = None
    _fill(message, properties, headers)
    args, kwargs, embed = body
    _set_call(message, args, kwargs)
    if embed is None:
        message.callbacks = message.errbacks = message.chain = message.chord = None
    else:
        _set_embed(message, embed)
    return message


def _set_embed(message: TaskMessage, embed: object) -> None:
    if not isinstance(embed, Mapping):
        raise InvalidTaskError(f"embed is {_show(embed)}, not a mapping")
    get = embed.get
    message.callbacks = _signatures("callbacks", get("callbacks"))
    message.errbacks = _signatures("errbacks", get("errbacks"))
    message.chain = _signatures("chain", get("chain"))
    chord = get("chord")
    if chord is not None and not isinstance(chord, Mapping):
        raise InvalidTaskError(f"field 'chord' is {_show(chord)}, not a signature")
    message.chord = chord


def _signatures(name: str, value: object) -> list[Any] | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, Mapping) for one in value):
        raise InvalidTaskError(f"field '{name}' is {_show(value)}, not a list of signatures")
    return list(value) or None


def _parse_v1(properties: Properties, body: Mapping[str, Any]) -> TaskMessage:
    message = TaskMessage()
    fields = dict(body)
    if fields.get("group") is None:
        fields["group"] = fields.get("taskset")
    message.raw = {**(properties.headers or {}), **{k: v for k, v in fields.items() if k in PROTOCOL_HEADERS}}
    utc = fields.get("utc", True)
    message.utc = bool(utc)
    _fill(message, properties, fields)
    args, kwargs = fields.get("args"), fields.get("kwargs")
    _set_call(message, () if args is None else args, {} if kwargs is None else kwargs)
    _set_embed(message, {**fields, "chain": None})
    return message


def _parse_hybrid(properties: Properties, headers: dict[str, Any], body: Mapping[str, Any]) -> TaskMessage:
    """Protocol 2 headers over a protocol 1 body: the headers win."""
    merged = {**body, **headers}
    embed = {name: body.get(name) for name in ("callbacks", "errbacks", "chord")}
    embed["chain"] = body.get("chain")
    args, kwargs = body.get("args"), body.get("kwargs")
    message = _parse_v2(properties, merged, (() if args is None else args, {} if kwargs is None else kwargs, embed))
    message.raw = {k: v for k, v in merged.items() if k in headers or k in PROTOCOL_HEADERS}
    return message


def _limits(value: object) -> list[float | None]:
    """Check ``[hard, soft]``; 0 counts as unset."""
    if not isinstance(value, (list, tuple)) or len(value) > 2:
        raise InvalidTaskError(f"field 'timelimit' is {_show(value)}, not [hard, soft]")
    limits: list[float | None] = [None, None]
    for index, one in enumerate(value):
        if one is None:
            continue
        if isinstance(one, bool) or not isinstance(one, (int, float)):
            raise InvalidTaskError(f"field 'timelimit' holds {_show(one)}, not a number of seconds")
        if not math.isfinite(one) or one < 0 or one > 1e9:
            raise InvalidTaskError(f"field 'timelimit' holds {_show(one)}, which is no possible limit")
        limits[index] = one or None
    return limits


def _moment_text(name: str, value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise InvalidTaskError(f"field '{name}' is {_show(value)}, not an ISO 8601 time")


def parse_time(name: str, text: str, zone: tzinfo = UTC) -> datetime:
    """An aware time from ISO 8601 text; naive text is in ``zone``. Raises InvalidTaskError naming the field."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidTaskError(f"field '{name}' is {_show(text)}, not an ISO 8601 time: {error}") from None


def _show(value: object) -> str:
    """A short text of any value for an error."""
    return saferepr(value, 60, 2)
