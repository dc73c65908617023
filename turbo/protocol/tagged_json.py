"""JSON as Celery's producers write and read it: plain JSON plus tagged values for a few Python types.

Place: the default serializer of ``protocol.content``, and the encoding of results. A date travels as
``{"__type__": "datetime", "__value__": "…"}``, likewise date, time, decimal, uuid, bytes and base64. orjson does
the work wherever its answer is exactly that of the standard library; whatever it would change or refuse goes to
the standard library: integers beyond 64 bits (orjson makes floats of them), NaN and infinities, lone surrogates,
tagged values, UUIDs, enums, subclasses. Pure.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import orjson

from turbo.exceptions import DecodeError, EncodeError

#: Nineteen digits in a row may be an integer beyond 64 bits.
_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_TAG: Final = b'"__type__"'
_INT64: Final = 1 << 63
#: Values seen before the check for plainness gives up and leaves the document to the standard library.
_PLAIN_LIMIT: Final = 64

_encoders: list[tuple[type, str, Any]] = [
    # datetime before date, which it derives from
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (Decimal, "decimal", str),
    (uuid.UUID, "uuid", lambda value: {"hex": value.hex}),
]

_decoders: dict[str, Any] = {
    "datetime": datetime.fromisoformat,
    "date": lambda text: datetime.fromisoformat(text).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda fields: uuid.UUID(**fields),
    "bytes": lambda text: text.encode("utf-8"),
    "base64": lambda text: base64.b64decode(text.encode("utf-8")),
}


def _default(value: object) -> object:
    """What the encoder does with a value that is not JSON's own."""
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    for kind, tag, encode in _encoders:
        if isinstance(value, kind):
            return {"__type__": tag, "__value__": encode(value)}
    if isinstance(value, bytes):
        try:
            return {"__type__": "bytes", "__value__": value.decode("utf-8")}
        except UnicodeDecodeError:
            return {"__type__": "base64", "__value__": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _hook(found: dict[str, Any]) -> object:
    """Turn a tagged value back into what it was."""
    if found.keys() == {"__type__", "__value__"}:
        decode = _decoders.get(found["__type__"]) if isinstance(found["__type__"], str) else None
        if decode is None:
            raise ValueError(f"unsupported tagged type {found['__type__']!r}")
        return decode(found["__value__"])
    return found


def _plain(value: object, budget: list[int]) -> bool:
    """Whether orjson writes this value exactly as the standard library would; False also when unsure."""
    budget[0] -= 1
    if budget[0] < 0:
        return False
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is str:
        return value.isascii()  # type: ignore[attr-defined, no-any-return]
    if kind is int:
        return -_INT64 <= value < _INT64  # type: ignore[operator]
    if kind is list or kind is tuple:
        return all(_plain(item, budget) for item in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(
            type(key) is str and key.isascii() and _plain(item, budget)
            for key, item in value.items()  # type: ignore[attr-defined]
        )
    return False


_encode_stdlib = json.JSONEncoder(default=_default).encode


def dumps(value: object) -> bytes:
    """Encode one value. Raises EncodeError for what JSON cannot carry."""
    try:
        if _plain(value, [_PLAIN_LIMIT]):
            return orjson.dumps(value)
        return _encode_stdlib(value).encode("utf-8")
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise EncodeError(str(error)) from error


def loads(data: bytes | str) -> Any:
    """Decode one document. Raises DecodeError for anything that is not one."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if _TAG not in raw and _LONG_NUMBER.search(raw) is None:
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass  # NaN, infinities and lone surrogates are the standard library's; broken text fails there too
    try:
        return json.loads(raw.decode("utf-8", "surrogatepass"), object_hook=_hook)
    except RecursionError:
        raise DecodeError("JSON is nested too deeply") from None
    except (ValueError, TypeError, ArithmeticError, AttributeError, KeyError) as error:
        raise DecodeError(f"not JSON that can be decoded: {error}") from error
