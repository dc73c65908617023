"""Decodes content headers and messages quickly that are like an earlier one.

They differ only in ids and argument texts.

The child's executor calls it once per task, in place of ``protocol.properties.decode_header`` and ``message.parse``.
The headers of one task's messages from one producer are equal except for five texts: id, root_id, argsrepr, kwargsrepr
and the correlation id. The cache decodes the first such header in full and stores it as a *shape*: the bytes between
those texts, and the decoded values. A later header with the same bytes in between differs only in the texts. Pure.

Why the result is correct: type and length bytes determine the structure of a header. All of them lie between the five
texts, except the lengths of the two argument texts and of the table, which are read and checked. So if everything in
between matches, the full decoder would take the same path and find the same values, except for the texts, which are
taken from the same places. A shape is stored only if full decoding of its header gave exactly the bytes at those
places for each text. Anything unusual (text that is not UTF-8, ids of another length) goes to the full decoder.
A message of a known shape needs no check of its fields but of those texts; all others were checked with the first.
tests/unit/protocol/test_header_cache.py compares both decoders on captured and mutated headers.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, tzinfo
from typing import Any, Final

from turbo.protocol.message import TaskMessage, parse
from turbo.protocol.properties import Properties, decode_header

_U32: Final = struct.Struct(">I").unpack_from
_U64: Final = struct.Struct(">Q").unpack_from
#: Offset of the flags. In nearly every message "application/json", "utf-8" and the table's length follow.
_HEAD_AT: Final = 12
_TABLE_AT: Final = 37
_KEYS_AT: Final = 41
#: Class and weight; the body size follows.
_BASIC: Final = b"\x00\x3c\x00\x00"
_JSON: Final = b"\x10application/json\x05utf-8"
#: Key, type and length of an id that is the text of a UUID.
_ID: Final = b"\x02idS\x00\x00\x00$"
_ROOT: Final = b"\x07root_idS\x00\x00\x00$"
_ARGS: Final = b"\x08argsreprS"
_KWARGS: Final = b"\nkwargsreprS"
_UUID: Final = 36
#: The third part of a body that nothing follows.
_NO_FOLLOW_UPS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
#: Most shapes at one time; a worker gets about one for each task and producer.
_MOST_SHAPES: Final = 256
#: A cache entry is not used any more after this many replacements in a row: its headers differ in other places.
_MAX_MISSES: Final = 8


class _Shape:
    """One stored header: the bytes between its texts, and its decoded values."""

    __slots__ = (
        "after_id", "after_kwargs", "after_root", "head", "headers", "message", "misses", "properties", "rest",
        "table_rest",
    )  # fmt: skip

    head: bytes
    after_id: bytes
    after_root: bytes
    after_kwargs: bytes
    rest: bytes
    #: Number of bytes of the table after kwargsrepr.
    table_rest: int
    headers: dict[str, Any]
    properties: Properties
    misses: int
    #: The first message with such a header, without what differs; None before it.
    message: TaskMessage | None


class HeaderCache:
    """A decoder with a cache. One per process; not thread-safe."""

    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: dict[bytes, _Shape] = {}

    def decode(self, payload: bytes) -> tuple[Properties, int]:  # hot: bench trace
        """Decode a header, as :func:`turbo.protocol.properties.decode_header` does.

        Raises TableError.
        """
        at = payload.find(_ID, _KEYS_AT)
        if at < 0:
            return decode_header(payload)
        key = payload[_KEYS_AT:at]
        shape = self._shapes.get(key)
        if shape is not None:
            found = _match(shape, payload, at + 8)
            if found is not None:
                return found
            if shape.misses >= _MAX_MISSES:
                return decode_header(payload)
        properties, size = decode_header(payload)
        self._store_shape(key, payload, at + 8, properties, shape.misses + 1 if shape is not None else 0)
        return properties, size

    def _store_shape(self, key: bytes, payload: bytes, at: int, properties: Properties, misses: int) -> None:
        """Store a header if all of it is in the usual form."""
        shape = _shape_of(payload, at, properties)
        if shape is None:
            return
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        shape.misses = misses
        self._shapes[key] = shape


def parse_alike(props: Properties, body: Any, zone: tzinfo = UTC) -> TaskMessage:  # hot: bench drain, trace
    """Return the record of a message, as ``protocol.message.parse`` does.

    Raises InvalidTaskError.
    """
    shape, headers = props.shape, props.headers
    if shape is None or headers is None or type(body) is not list or len(body) != 3:
        return parse(props, body, zone)
    args, kwargs, embed = body
    if embed != _NO_FOLLOW_UPS or type(args) is not list or type(kwargs) is not dict:
        return parse(props, body, zone)
    known, correlation_id = shape.message, props.correlation_id
    if known is None or correlation_id is None or not correlation_id.isascii():
        message = parse(props, body, zone)
        if message.headers is None:
            shape.message = replace(message, args=(), kwargs={}, properties=Properties())
        return message
    fields: dict[str, Any] = headers
    return TaskMessage(
        fields["id"], known.task, args, kwargs, None, None, None, None,
        known.retries, known.eta, known.expires, fields["timelimit"], known.group, known.group_index,
        fields["root_id"], known.parent_id, fields["argsrepr"], fields["kwargsrepr"], known.origin,
        known.ignore_result, known.replaced_task_nesting, None, None, known.shadow, known.lang,
        True, known.reply_to, correlation_id, None, props,
    )  # fmt: skip


def _match(shape: _Shape, payload: bytes, at: int) -> tuple[Properties, int] | None:  # hot: bench trace
    """Decode a header by a shape; return None if the header has another shape."""
    id_end = at + _UUID
    root_at = id_end + len(shape.after_id)
    root_end = root_at + _UUID
    args_at = root_end + len(shape.after_root) + 4
    if (
        not payload.startswith(shape.after_id, id_end)
        or not payload.startswith(shape.after_root, root_end)
        or not payload.startswith(shape.head, _HEAD_AT)
        or not payload.startswith(_BASIC)
        or len(payload) < args_at
    ):
        return None
    args_end = args_at + _U32(payload, args_at - 4)[0]
    kwargs_at = args_end + 16
    if not payload.startswith(_KWARGS, args_end) or len(payload) < kwargs_at:
        return None
    kwargs_end = kwargs_at + _U32(payload, kwargs_at - 4)[0]
    correlation_at = kwargs_end + len(shape.after_kwargs)
    if (
        not payload.startswith(shape.after_kwargs, kwargs_end)
        or payload[correlation_at + _UUID :] != shape.rest
        or _U32(payload, _TABLE_AT)[0] != kwargs_end + shape.table_rest - _KEYS_AT
    ):
        return None
    try:
        headers = shape.headers.copy()
        headers["id"] = payload[at:id_end].decode()
        headers["timelimit"] = [None, None]
        headers["root_id"] = payload[root_at:root_end].decode()
        headers["argsrepr"] = payload[args_at:args_end].decode()
        headers["kwargsrepr"] = payload[kwargs_at:kwargs_end].decode()
        headers["stamps"] = {}
        correlation_id = payload[correlation_at : correlation_at + _UUID].decode()
    except UnicodeDecodeError:
        return None
    known = shape.properties
    properties = Properties(
        known.content_type,
        known.content_encoding,
        headers,
        known.delivery_mode,
        known.priority,
        correlation_id,
        known.reply_to,
        known.expiration,
        shape=shape,
    )
    shape.misses = 0
    return properties, _U64(payload, 4)[0]


def _shape_of(payload: bytes, at: int, properties: Properties) -> _Shape | None:
    """Return the shape of a decoded header; None if it is not the usual one."""
    headers = properties.headers
    root_at = payload.find(_ROOT, at) + len(_ROOT)
    args_at = payload.find(_ARGS, root_at) + len(_ARGS) + 4
    if (
        headers is None
        or root_at < len(_ROOT)
        or args_at < len(_ARGS) + 4
        or headers.get("timelimit") != [None, None]
        or headers.get("stamps") != {}
        or any(type(value) in (list, dict) for name, value in headers.items() if name not in ("timelimit", "stamps"))
    ):
        return None
    args_end = args_at + _U32(payload, args_at - 4)[0]
    kwargs_at = args_end + 16
    if not payload.startswith(_KWARGS, args_end):
        return None
    kwargs_end = kwargs_at + _U32(payload, kwargs_at - 4)[0]
    table_end = _KEYS_AT + _U32(payload, _TABLE_AT)[0]
    correlation = (properties.correlation_id or "").encode("utf-8", "surrogateescape")
    correlation_at = payload.find(b"$" + correlation, table_end) + 1
    spans = ((at, at + _UUID), (root_at, root_at + _UUID), (args_at, args_end), (kwargs_at, kwargs_end))
    cut = tuple(payload[start:end] for start, end in spans)
    named = ("id", "root_id", "argsrepr", "kwargsrepr")
    if (
        len(correlation) != _UUID
        or correlation_at == 0
        or cut != tuple(str(headers.get(name)).encode() for name in named)
        or any(type(headers[name]) is not str for name in named)
        or not payload.startswith(_JSON, _HEAD_AT + 2)
        or not payload.startswith(_BASIC)
        or properties.message_id is not None
        or any(
            getattr(properties, name) is not None for name in ("timestamp", "type", "user_id", "app_id", "cluster_id")
        )
    ):
        return None
    shape = _Shape()
    shape.message = None
    shape.head = payload[_HEAD_AT:_TABLE_AT]
    shape.after_id = payload[at + _UUID : root_at]
    shape.after_root = payload[root_at + _UUID : args_at - 4]
    shape.after_kwargs = payload[kwargs_end:correlation_at]
    shape.rest = payload[correlation_at + _UUID :]
    shape.table_rest = table_end - kwargs_end
    shape.headers = headers.copy()
    shape.properties = properties
    return shape
