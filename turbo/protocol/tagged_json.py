"""JSON as Celery means it: values that JSON lacks travel as ``{"__type__": …, "__value__": …}``.

Before it: message bodies and stored documents. After it: ``content`` and ``result_meta``. Pure; runs in clients,
in children, and in the master for documents that it writes itself. orjson does the work when it means the same as
the standard library's ``json``; every case where it does not is found first and left to the standard library:

- reading: integers beyond 64 bits (orjson makes floats of them without a word), tags, and whatever orjson refuses
  but Celery's producers send (NaN, Infinity, lone surrogates);
- writing: UUIDs, dataclasses and enums (orjson writes them without a tag), NaN and Infinity (it writes null),
  and whatever it refuses (big integers, keys that are not text, named tuples).

It never raises anything but ``EncodeError`` and ``DecodeError``, and ``MemoryError`` when there is none left.
"""

from __future__ import annotations

import base64
import json
import marshal
import re
import sys
import uuid
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from turbo.exceptions import DecodeError, EncodeError
from turbo.protocol import kombu_registry
from turbo.protocol.saferepr import clean

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Maps every digit to "0" and the rest to a zero byte: long runs of digits can then be searched for.
_DIGITS: Final = bytes(48 if 48 <= byte < 58 else 0 for byte in range(256))
#: The shortest integer that orjson may not hold: -9223372036854775809 has 19 digits.
_MANY_DIGITS: Final = b"0" * 19
#: The key of a tag, if any of its characters is written as an escape.
_ESCAPED_TAG: Final = re.compile(rb"\\u00[567]")
#: A marshalled double (type ``g``) whose exponent is all ones: NaN or an infinity.
_NOT_FINITE: Final = re.compile(rb"g.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
_ENCODE_OPTIONS: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
)

_orjson_loads = orjson.loads
_orjson_dumps = orjson.dumps
_marshal = marshal.dumps
_not_finite = _NOT_FINITE.search


# hot: bench/protocol.py, once a task in the child
def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Decode a document. Raises ``DecodeError`` for what is not JSON, nested too deep, or wrongly tagged."""
    if type(data) is not bytes:
        if isinstance(data, str):
            return _loads_slowly(data)
        data = bytes(data)
    # The cheap look first, which settles nearly every large document: a run of 19 digits covers two neighbouring
    # ones of every ninth byte, a tag needs an underscore, an escape a backslash.
    if (
        (b"00" in data[::9].translate(_DIGITS) and _MANY_DIGITS in data.translate(_DIGITS))
        or (b"_" in data and b"__type__" in data)
        or (b"\\" in data and b"\\u00" in data and _ESCAPED_TAG.search(data))
    ):
        return _loads_slowly(data)
    try:
        return _orjson_loads(data)
    except orjson.JSONDecodeError:
        return _loads_slowly(data)


def _loads_slowly(data: bytes | str) -> Any:
    try:
        return json.loads(data if isinstance(data, str) else data.decode(), object_hook=_untag)
    except RecursionError as error:
        raise DecodeError("JSON nested too deep") from error
    except DecodeError:
        raise
    except ValueError as error:
        raise DecodeError(f"not JSON: {clean(str(error), 200)}") from error


def _untag(value: dict[str, Any]) -> Any:
    """Turn a tagged object into the value that it stands for."""
    if len(value) != 2 or "__type__" not in value or "__value__" not in value:
        return value
    tag = value["__type__"]
    decoder = (kombu_registry.type_decoder(tag) or _decoders.get(tag)) if isinstance(tag, str) else None
    if decoder is None:
        raise DecodeError(f"unknown type tag {clean(str(tag), 100)}")
    try:
        return decoder(value["__value__"])
    except Exception as error:  # a registered decoder is somebody's own code
        raise DecodeError(f"wrong value of type {tag}: {clean(str(error), 200)}") from error


def loads_untagged(data: bytes) -> Any:
    """Decode a document with tagged objects left as they travel, so that no registered code runs. Raises
    ``DecodeError``.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {clean(str(error), 200)}") from error


# hot: bench/protocol.py, once a stored result
def dumps(obj: Any) -> bytes:
    """Encode a value. Raises ``EncodeError`` for what has no representation, sets for one."""
    try:
        # marshal takes exactly the plain types, quickly and at any place in the value. UUIDs, dataclasses, enums,
        # named tuples and other subclasses make it raise; orjson alone would write some of them untagged.
        if _not_finite(_marshal(obj, 2)) is None:
            return _orjson_dumps(obj, _plain_default, _ENCODE_OPTIONS)
    except (ValueError, TypeError, RecursionError):
        # Not a fault yet: the standard library decides, out of here, so that its own error speaks of this one nowhere.
        pass
    return _dumps_slowly(obj)


def _plain_default(value: object) -> object:
    """Tag bytes, the one type that marshal lets pass and JSON lacks."""
    if type(value) is bytes and bytes not in (kombu_registry.type_encoders() or ()):
        return _tag_bytes(value)
    raise TypeError(type(value).__name__)


def _dumps_slowly(obj: object) -> bytes:
    try:
        return _encode(obj).encode("ascii")
    except RecursionError as error:
        raise EncodeError("nested too deep, or within itself") from error
    except EncodeError:
        raise
    except Exception as error:  # __json__ methods and registered encoders are somebody's own code
        raise EncodeError(error) from error


def _default(value: Any) -> Any:
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    for known in (kombu_registry.type_encoders() or {}, _encoders):
        for kind, (tag, encoder) in known.items():
            if isinstance(value, kind):
                encoded = encoder(value)
                return encoded if tag is None else {"__type__": tag, "__value__": encoded}
    if isinstance(value, bytes):
        return _tag_bytes(value)
    # Translated text of Django, which becomes text when asked; Django is not imported for it.
    functional = sys.modules.get("django.utils.functional")
    if functional is not None and isinstance(value, functional.Promise):
        return str(value)
    # Wrapped like this, its document says what kombu's says.
    raise EncodeError(TypeError(f"Object of type {type(value).__name__} is not JSON serializable"))


def _tag_bytes(value: bytes) -> dict[str, str]:
    try:
        return {"__type__": "bytes", "__value__": value.decode()}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": base64.b64encode(value).decode("ascii")}


_encode = json.JSONEncoder(default=_default).encode


def register_type(
    kind: type[T], tag: str | None, encoder: Callable[[T], Any], decoder: Callable[[Any], T] | None = None
) -> None:
    """Let ``kind`` travel: as a tagged value, or without a tag (and then for good) when ``tag`` is None.

    Looked up in the order of registration, so a subclass must be registered before its parent. What is registered with
    kombu, where the program has loaded it, comes first: there a program may have replaced one of its types.
    """
    _encoders[kind] = (tag, encoder)
    if tag is not None:
        _decoders[tag] = decoder if decoder is not None else lambda value: value


_encoders: dict[type[Any], tuple[str | None, Callable[[Any], Any]]] = {}
_decoders: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda value: value.encode(),
    "base64": lambda value: base64.b64decode(value.encode()),
}

# A datetime is a date too, so it comes first.
register_type(datetime, "datetime", datetime.isoformat, datetime.fromisoformat)
register_type(date, "date", date.isoformat, lambda value: datetime.fromisoformat(value).date())
register_type(time, "time", time.isoformat, time.fromisoformat)
register_type(Decimal, "decimal", str, Decimal)
register_type(uuid.UUID, "uuid", lambda value: {"hex": value.hex}, lambda value: uuid.UUID(**value))
