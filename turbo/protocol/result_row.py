"""A result document as a row of Celery's table ``celery_taskmeta``.

Celery's database backend keeps the fields of a document in columns: some as text, the others encoded with
``result_serializer``. Before it: ``result_meta``. After it: ``backends.sql``. Children build rows, so that the master
moves a large result to the database without decoding it; clients build and read them. Pure. It must never encode or
decode a value when a row is packed or unpacked.

A packed row is the size of its head (4 bytes), its head (JSON: the plain columns, and the size of each encoded one)
and the encoded columns one after the other.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import DecodeError
from turbo.protocol.content import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The content type of a packed row. It is used between child and master only.
ROW_TYPE: Final = "application/x-turbo-result-row"

_SIZE: Final = struct.Struct(">I")
_PLAIN: Final = ("status", "date_done", "traceback", "name", "worker", "retries", "queue")
_ENCODED: Final = ("result", "children", "args", "kwargs", "stamps")


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The columns of one task but its id.

    None is NULL; bytes are values encoded with ``result_serializer``.
    """

    status: str
    #: ISO 8601 text, for final states.
    date_done: str | None = None
    traceback: str | None = None
    result: bytes | None = None
    children: bytes | None = None
    #: This and the following columns exist with ``result_extended`` only.
    name: str | None = None
    args: bytes | None = None
    kwargs: bytes | None = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamps: bytes | None = None


def row_of(meta: Mapping[str, Any], serializer: str) -> ResultRow:
    """Return the row of a document.

    Raises ``EncodeError`` for a value that the serializer cannot encode.
    """

    def encoded(value: object) -> bytes | None:
        return None if value is None else encode(value, serializer)[0]

    stamped = meta.get("stamped_headers")
    stamps = None
    if stamped:
        stamps = {"stamped_headers": stamped, "stamps": {name: meta[name] for name in stamped if name in meta}}
    return ResultRow(
        status=meta["status"],
        date_done=meta.get("date_done"),
        traceback=meta.get("traceback"),
        result=encode(meta.get("result"), serializer)[0],
        children=encoded(meta.get("children") or None),
        name=meta.get("name"),
        args=encoded(meta.get("args")),
        kwargs=encoded(meta.get("kwargs")),
        worker=meta.get("worker"),
        retries=meta.get("retries"),
        queue=meta.get("queue"),
        stamps=encoded(stamps),
    )


def pack(row: ResultRow) -> bytes:
    """Return the row as bytes, for the way from a child to the master."""
    values = asdict(row)
    blobs = [values[name] for name in _ENCODED]
    sizes = [None if blob is None else len(blob) for blob in blobs]
    head = json.dumps([[values[name] for name in _PLAIN], sizes]).encode()
    return b"".join((_SIZE.pack(len(head)), head, *(blob for blob in blobs if blob is not None)))


def unpack(packed: bytes) -> ResultRow:
    """Return the row that :func:`pack` has packed.

    Raises ``DecodeError`` for other bytes.
    """
    try:
        (size,) = _SIZE.unpack_from(packed)
        place = _SIZE.size + size
        plain, sizes = json.loads(packed[_SIZE.size : place])
        values: dict[str, Any] = dict(zip(_PLAIN, plain, strict=True))
        for name, length in zip(_ENCODED, sizes, strict=True):
            if length is None:
                continue
            values[name] = packed[place : place + length]
            place += length
        if place != len(packed) or not isinstance(values["status"], str):
            raise DecodeError("the columns of a result row do not have the announced sizes")
        return ResultRow(**values)
    except (struct.error, ValueError, TypeError) as error:
        raise DecodeError(f"not a packed result row: {error}") from error
