"""Parses task messages of every form that Celery has used into one record.

Before it: ``properties`` and ``content``, which decoded the headers and the body. After it: the child's executor, and
in the master all code that needs a message's headers. Pure. Every message becomes a :class:`TaskMessage`, or raises an
``InvalidTaskError`` that names the field; it must never raise anything else.

Protocol 2 has its fields in the headers and ``[args, kwargs, embed]`` as its body. Protocol 1 has everything in a body
that is a mapping. A hybrid has both, and its headers take precedence. Wrong values of fields that are only displayed
(``shadow``, ``argsrepr``, ``origin`` …) are dropped; a wrong value of any other field makes the message invalid.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from turbo.exceptions import DecodeError, InvalidTaskError
from turbo.protocol import message_fields
from turbo.protocol.building import build
from turbo.protocol.content import JSON
from turbo.protocol.instants import parse_eta
from turbo.protocol.message_errors import UnknownMessageError
from turbo.protocol.own_headers import LEASE
from turbo.protocol.properties import Properties
from turbo.protocol.saferepr import clean, saferepr
from turbo.protocol.tagged_json import loads_untagged

__all__ = [
    "Form",
    "TaskMessage",
    "UnknownMessageError",
    "build",
    "identify",
    "parse",
    "parse_eta",
    "parse_headers",
    "saferepr",
    "salvage",
]

#: The headers that every Celery since 5.3 sends.
_STANDARD: Final = (
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
    "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
    "stamps",
)  # fmt: skip
#: Headers of the protocol, as opposed to the user's. The last four are not in every message.
_KNOWN: Final = frozenset({*_STANDARD, "compression", "meth", "utc", LEASE})

#: Most characters of a task's name or id in a log line.
_LONGEST_SHOWN: Final = 200

#: Most bytes of a protocol-1 body that the master decodes for its headers.
_LARGEST_HEADER_BODY: Final = 1024 * 1024


class Form(enum.Enum):
    """How a message holds its fields."""

    V2 = "protocol 2"
    V1 = "protocol 1"
    HYBRID = "headers of protocol 2, body of protocol 1"
    UNKNOWN = "not a task message"


@dataclass(slots=True, init=False)
class TaskMessage:
    """One call of a task, as it was sent. Times are aware and UTC; limits are seconds."""

    id: str
    #: Name under which the task is registered.
    task: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    #: Signatures as the message had them, validated; see ``signature``.
    callbacks: list[Any] | None
    errbacks: list[Any] | None
    chain: list[Any] | None
    chord: Any
    retries: int
    eta: datetime | None
    expires: datetime | None
    #: [hard, soft]; 0 and None mean the limits of the task and the worker. None if the message has no such field.
    timelimit: list[float | None] | None
    group: str | None
    group_index: int | None
    root_id: str
    parent_id: str | None
    argsrepr: str | None
    kwargsrepr: str | None
    origin: str | None
    #: None if the message has no such field; the task's own option applies then.
    ignore_result: bool | None
    replaced_task_nesting: int
    stamped_headers: list[str] | None
    stamps: dict[str, Any] | None
    #: Name to display instead of ``task``.
    shadow: str | None
    lang: str | None
    utc: bool
    reply_to: str | None
    correlation_id: str | None
    #: The caller's own headers and those of dead-lettering; None if there are none.
    headers: dict[str, Any] | None
    properties: Properties

    # Written out, since mypyc compiles only what is in the source.
    # hot: bench/protocol.py, once a task in the child
    def __init__(
        self,
        id: str,
        task: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        callbacks: list[Any] | None,
        errbacks: list[Any] | None,
        chain: list[Any] | None,
        chord: Any,
        retries: int,
        eta: datetime | None,
        expires: datetime | None,
        timelimit: list[float | None] | None,
        group: str | None,
        group_index: int | None,
        root_id: str,
        parent_id: str | None,
        argsrepr: str | None,
        kwargsrepr: str | None,
        origin: str | None,
        ignore_result: bool | None,
        replaced_task_nesting: int,
        stamped_headers: list[str] | None,
        stamps: dict[str, Any] | None,
        shadow: str | None,
        lang: str | None,
        utc: bool,
        reply_to: str | None,
        correlation_id: str | None,
        headers: dict[str, Any] | None,
        properties: Properties,
    ) -> None:
        self.id = id
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.callbacks = callbacks
        self.errbacks = errbacks
        self.chain = chain
        self.chord = chord
        self.retries = retries
        self.eta = eta
        self.expires = expires
        self.timelimit = timelimit
        self.group = group
        self.group_index = group_index
        self.root_id = root_id
        self.parent_id = parent_id
        self.argsrepr = argsrepr
        self.kwargsrepr = kwargsrepr
        self.origin = origin
        self.ignore_result = ignore_result
        self.replaced_task_nesting = replaced_task_nesting
        self.stamped_headers = stamped_headers
        self.stamps = stamps
        self.shadow = shadow
        self.lang = lang
        self.utc = utc
        self.reply_to = reply_to
        self.correlation_id = correlation_id
        self.headers = headers
        self.properties = properties

    @property
    def label(self) -> str:
        """``task[id]`` for one log line, with the shadow name if the message has one.

        Both parts come from the wire, so they are shortened and escaped.
        """
        return f"{clean(self.shadow or self.task, _LONGEST_SHOWN)}[{clean(self.id, _LONGEST_SHOWN)}]"


def identify(props: Properties, body: object) -> Form:
    """Return the form of a message; ``body`` is decoded."""
    headers = props.headers
    if headers is not None and not isinstance(headers, Mapping):
        return Form.UNKNOWN
    if headers is not None and "task" in headers:
        return Form.HYBRID if isinstance(body, Mapping) and "args" in body else Form.V2
    return Form.V1 if isinstance(body, Mapping) and "task" in body and "id" in body else Form.UNKNOWN


# hot: bench/protocol.py, once a task in the child
def parse(props: Properties, body: object, zone: tzinfo = UTC) -> TaskMessage:
    """Return the record of a message whose headers and body are decoded.

    ``zone`` is the time zone of times without an offset in protocol-1 messages with ``utc`` false. Raises
    ``InvalidTaskError``, which names the field, or its subclass :class:`UnknownMessageError`; nothing else.
    """
    headers = props.headers
    if type(body) is list and len(body) == 3 and type(headers) is dict and "task" in headers:
        return _assemble(headers, body[0], body[1], body[2], props, UTC)
    form = identify(props, body)
    if form is Form.V2:
        if not isinstance(body, (list, tuple)) or len(body) != 3:
            raise InvalidTaskError(f"the body must be [args, kwargs, embed], not {type(body).__name__}")
        return _assemble(headers or {}, body[0], body[1], body[2], props, UTC)
    if form is Form.UNKNOWN or not isinstance(body, Mapping):
        raise UnknownMessageError("neither headers nor body name a task")
    return _parse_mapping(headers or {}, body, props, zone)


def parse_headers(props: Properties, body: bytes, zone: tzinfo = UTC) -> TaskMessage:
    """Return a record without arguments and follow-ups, from the headers alone.

    It decodes ``body`` only for protocol 1, which has no headers, and only JSON of moderate size. Raises
    ``InvalidTaskError``, as :func:`parse` does.
    """
    headers = props.headers
    if type(headers) is dict and "task" in headers:
        return _assemble(headers, (), {}, None, props, UTC)
    if (
        props.content_type != JSON
        or len(body) > _LARGEST_HEADER_BODY
        or (type(headers) is dict and "compression" in headers)
    ):
        raise UnknownMessageError("the headers name no task")
    try:
        decoded = loads_untagged(body)
    except DecodeError as error:
        raise UnknownMessageError(f"the headers name no task, and the body is {error}") from error
    if identify(props, decoded) is not Form.V1:
        raise UnknownMessageError("neither headers nor body name a task")
    message = _parse_mapping(headers or {}, decoded, props, zone)
    message.args, message.kwargs = (), {}
    return message


def salvage(props: Properties, body: bytes) -> TaskMessage | None:
    """Return what a reply to an invalid message needs: id, task, reply queue.

    Returns None without an id. Never raises. Ignores all other fields, valid or not.
    """
    try:
        return parse_headers(props, body)
    except InvalidTaskError:
        headers = props.headers if type(props.headers) is dict else {}
    task_id, task = headers.get("id"), headers.get("task")
    if type(task_id) is not str or not task_id:
        return None
    encodable = message_fields.encodable_or_none
    reply = Properties(reply_to=encodable(props.reply_to), correlation_id=encodable(props.correlation_id))
    fields = {"id": task_id, "task": task if type(task) is str and task else "unknown"}
    return _assemble(fields, (), {}, None, reply, UTC)


def _parse_mapping(headers: Mapping[str, Any], body: Mapping[Any, Any], props: Properties, zone: tzinfo) -> TaskMessage:
    """Return the record of a protocol-1 or hybrid message.

    Headers override the body's fields.
    """
    utc = body.get("utc", True) is not False
    fields: dict[str, Any] = {
        "group": body.get("taskset"),
        **{key: body[key] for key in _STANDARD if body.get(key) is not None},
        **{key: value for key, value in headers.items() if value is not None},
    }
    args = body.get("args")
    kwargs = body.get("kwargs")
    embed = {key: body.get(key) for key in ("callbacks", "errbacks", "chord")}
    message = _assemble(
        fields, () if args is None else args, {} if kwargs is None else kwargs, embed, props, UTC if utc else zone
    )
    message.utc = utc
    message.headers = {key: value for key, value in headers.items() if key not in _KNOWN} or None
    for name in ("id", "task", "group", "root_id", "parent_id"):
        # JSON can hold text that cannot be encoded; headers cannot.
        message_fields.check_encodable(name, getattr(message, name))
    return message


# hot: bench/protocol.py, once a task in the child
def _assemble(
    fields: Mapping[str, Any], args: Any, kwargs: Any, embed: Any, props: Properties, zone: tzinfo
) -> TaskMessage:
    get = fields.get
    task_id = get("id")
    task = get("task")
    if type(task_id) is not str or not task_id:
        raise message_fields.invalid("id", task_id, "text")
    if type(task) is not str or not task:
        raise message_fields.invalid("task", task, "text")
    if not isinstance(args, (list, tuple)):
        raise message_fields.invalid("args", args, "a list")
    if type(kwargs) is not dict:
        raise message_fields.invalid("kwargs", kwargs, "a mapping")
    callbacks = errbacks = chain = chord = None
    if embed:
        if type(embed) is not dict:
            raise message_fields.invalid("embed", embed, "a mapping")
        callbacks, errbacks = embed.get("callbacks"), embed.get("errbacks")
        chain, chord = embed.get("chain"), embed.get("chord")
        if callbacks or errbacks or chain or chord:
            message_fields.check_follow_ups(callbacks, errbacks, chain, chord)
    retries = get("retries", 0)
    if type(retries) is not int or retries < 0:
        retries = message_fields.count("retries", retries)
    nesting = get("replaced_task_nesting", 0)
    if type(nesting) is not int or nesting < 0:
        nesting = message_fields.count("replaced_task_nesting", nesting)
    eta = get("eta")
    if eta is not None:
        eta = message_fields.when("eta", eta, zone)
    expires = get("expires")
    if expires is not None:
        expires = message_fields.when("expires", expires, zone)
    limits = get("timelimit")
    if limits is not None and limits != [None, None]:
        limits = message_fields.time_limits(limits)
    group = get("group")
    if group is not None and type(group) is not str:
        raise message_fields.invalid("group", group, "text")
    index = get("group_index")
    if index is not None and type(index) is not int:
        raise message_fields.invalid("group_index", index, "an integer")
    root_id = get("root_id")
    if type(root_id) is not str:
        root_id = message_fields.root("root_id", root_id, task_id)
    parent_id = get("parent_id")
    if parent_id is not None and type(parent_id) is not str:
        raise message_fields.invalid("parent_id", parent_id, "text")
    ignore_result = get("ignore_result")
    if ignore_result is not None and type(ignore_result) is not bool:
        ignore_result = message_fields.flag("ignore_result", ignore_result)
    stamped = get("stamped_headers")
    stamps = get("stamps")
    if stamped is not None or stamps:
        message_fields.check_stamps(stamped, stamps)
    correlation_id = props.correlation_id
    if correlation_id is not None and not correlation_id.isascii():
        message_fields.check_encodable("correlation_id", correlation_id)
    reply_to = props.reply_to
    if reply_to is not None and not reply_to.isascii():
        message_fields.check_encodable("reply_to", reply_to)
    argsrepr, kwargsrepr, origin, shadow, lang = (
        get("argsrepr"), get("kwargsrepr"), get("origin"), get("shadow"), get("lang"),
    )  # fmt: skip
    headers: dict[str, Any] | None = None
    if len(fields) != 19 or not fields.keys() <= _KNOWN:
        headers = {key: value for key, value in fields.items() if key not in _KNOWN} or None
    return TaskMessage(
        task_id, task, args, kwargs,
        callbacks or None, errbacks or None, chain or None, chord or None,
        retries, eta, expires, limits, group, index, root_id or task_id, parent_id,
        argsrepr if type(argsrepr) is str else None,
        kwargsrepr if type(kwargsrepr) is str else None,
        origin if type(origin) is str else None,
        ignore_result, nesting, stamped, stamps or None,
        (shadow or None) if type(shadow) is str else None,
        lang if type(lang) is str else None,
        True, reply_to, correlation_id, headers, props,
    )  # fmt: skip
