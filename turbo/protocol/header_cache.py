"""Decodes content headers and messages quickly that are like an earlier one.

They differ only in ids and argument texts.

The child's executor calls it once per task, in place of ``protocol.properties.decode_header`` and ``message.parse``.
The headers of one task's messages are equal except for five texts: id, root_id, argsrepr, kwargsrepr and the
correlation id. The cache decodes the first such header in full and stores it as a *shape*, the bytes between those
texts up to kwargsrepr, and a *variant*, the bytes after it with the decoded values. There the name of the producer and
its reply queue are, so a shape has a variant for each producer. A later header with the same bytes in between differs
only in the texts. Pure.

Why the result is correct: type and length bytes determine the structure of a header. All of them lie between the five
texts, except the lengths of the two argument texts and of the table, which are read and checked. So if everything in
between matches, the full decoder would take the same path and find the same values, except for the texts, which are
taken from the same places. A variant is stored only if full decoding of its header gave exactly the bytes at those
places for each text. Anything unusual (text that is not UTF-8, ids of another length) goes to the full decoder.
A message of a known variant needs no check of its fields but of those texts; all others were checked with the first.
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
#: Class and weight, body size, flags to encoding, length of the table.
_FRONT: Final = struct.Struct(">4sQ25sI").unpack_from
#: Key and type of kwargsrepr, its length.
_KWARGS_FRONT: Final = struct.Struct(">12sI").unpack_from
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
#: Most shapes at one time, and most variants of one; a worker gets about one shape for each task.
_MOST_SHAPES: Final = 256
_MOST_VARIANTS: Final = 64
#: After this many headers in a row that no variant matches, no more variants are stored until one matches: the headers
#: differ in other places.
_MAX_MISSES: Final = 8


class _Variant:
    """The decoded values of one header, without its texts."""

    __slots__ = ("headers", "message", "properties")

    headers: dict[str, Any]
    properties: Properties
    #: The first message with such a header, without what differs; None before it.
    message: TaskMessage | None

    def __init__(self, headers: dict[str, Any], properties: Properties) -> None:
        self.headers = headers
        self.properties = properties
        self.message = None


class _Shape:
    """The bytes between the texts of one stored header."""

    __slots__ = ("after_id", "after_root", "gap", "head", "middle", "misses", "variants")

    head: bytes
    after_id: bytes
    after_root: bytes
    #: Reads id, ``after_id``, root id, ``after_root`` and the length of argsrepr.
    middle: struct.Struct
    #: Number of bytes between the table and the correlation id.
    gap: int
    misses: int
    #: By the bytes between kwargsrepr and the correlation id, and those after that.
    variants: dict[tuple[bytes, bytes], _Variant]

    def is_like(self, other: _Shape) -> bool:
        """Whether both have the same bytes, so that their variants are of one shape."""
        return (self.head, self.after_id, self.after_root, self.gap) == (
            other.head, other.after_id, other.after_root, other.gap,
        )  # fmt: skip


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
            shape.misses += 1
            if shape.misses > _MAX_MISSES:
                return decode_header(payload)
        properties, size = decode_header(payload)
        self._store(key, payload, at + 8, properties)
        return properties, size

    def _store(self, key: bytes, payload: bytes, at: int, properties: Properties) -> None:
        """Store a header if all of it is in the usual form."""
        found = _shape_of(payload, at, properties)
        if found is None:
            return
        known = self._shapes.get(key)
        if known is None or not known.is_like(found):
            found.misses = 0 if known is None else known.misses
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[key] = found
            return
        if len(known.variants) >= _MOST_VARIANTS:
            known.variants.clear()
        known.variants.update(found.variants)


def parse_alike(props: Properties, body: Any, zone: tzinfo = UTC) -> TaskMessage:  # hot: bench drain, trace
    """Return the record of a message, as ``protocol.message.parse`` does.

    Raises InvalidTaskError.
    """
    variant, headers = props.variant, props.headers
    if variant is None or headers is None or type(body) is not list or len(body) != 3:
        return parse(props, body, zone)
    args, kwargs, embed = body
    if embed != _NO_FOLLOW_UPS or type(args) is not list or type(kwargs) is not dict:
        return parse(props, body, zone)
    known, correlation_id = variant.message, props.correlation_id
    if known is None or correlation_id is None or not correlation_id.isascii():
        message = parse(props, body, zone)
        if message.headers is None:
            variant.message = replace(message, args=(), kwargs={}, properties=Properties())
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
    try:
        basic, size, head, table_size = _FRONT(payload)
        raw_id, after_id, raw_root, after_root, args_size = shape.middle.unpack_from(payload, at)
        args_at = at + shape.middle.size
        args_end = args_at + args_size
        kwargs_key, kwargs_size = _KWARGS_FRONT(payload, args_end)
    except struct.error:  # it ends before them
        return None
    kwargs_at = args_end + 16
    kwargs_end = kwargs_at + kwargs_size
    correlation_at = _KEYS_AT + table_size + shape.gap
    correlation_end = correlation_at + _UUID
    variant = shape.variants.get((payload[kwargs_end:correlation_at], payload[correlation_end:]))
    if (
        variant is None
        or after_id != shape.after_id
        or after_root != shape.after_root
        or kwargs_key != _KWARGS
        or head != shape.head
        or basic != _BASIC
        or len(payload) < correlation_end
    ):
        return None
    raw_correlation = payload[correlation_at:correlation_end]
    try:
        task_id = raw_id.decode()
        headers = variant.headers.copy()
        headers["id"] = task_id
        headers["timelimit"] = [None, None]
        # A task that no other task has sent is its own root, and its id is the correlation id.
        headers["root_id"] = task_id if raw_root == raw_id else raw_root.decode()
        headers["argsrepr"] = payload[args_at:args_end].decode()
        headers["kwargsrepr"] = payload[kwargs_at:kwargs_end].decode()
        headers["stamps"] = {}
        correlation_id = task_id if raw_correlation == raw_id else raw_correlation.decode()
    except UnicodeDecodeError:
        return None
    known = variant.properties
    # By position, which takes a third less: those that are not of a shape, then its variant.
    properties = Properties(
        known.content_type, known.content_encoding, headers, known.delivery_mode, known.priority,
        correlation_id, known.reply_to, known.expiration, None, None, None, None, None, None, variant,
    )  # fmt: skip
    shape.misses = 0
    return properties, size


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
    variant = _Variant(headers.copy(), properties)
    shape = _Shape()
    shape.misses = 0
    shape.head = payload[_HEAD_AT:_TABLE_AT]
    shape.after_id = payload[at + _UUID : root_at]
    shape.after_root = payload[root_at + _UUID : args_at - 4]
    shape.middle = struct.Struct(f">36s{len(shape.after_id)}s36s{len(shape.after_root)}sI")
    shape.gap = correlation_at - table_end
    shape.variants = {(payload[kwargs_end:correlation_at], payload[correlation_at + _UUID :]): variant}
    return shape
