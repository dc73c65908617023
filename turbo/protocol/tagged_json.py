"""Encodes and decodes JSON as Celery does, with tagged types.

Other types become ``{"__type__": …, "__value__": …}``.

Before it: message bodies and stored documents. After it: ``content`` and ``result_meta``. Runs in clients, in children,
and in the master for documents that it writes itself. Pure. orjson does the work if its result equals that of the
standard library's ``json``; every other case is detected first and left to the standard library:

- reading: integers beyond 64 bits (orjson silently makes them floats), tags, and what orjson refuses but Celery's
  producers send (NaN, Infinity, lone surrogates);
- writing: UUIDs, dataclasses and enums (orjson writes them without a tag), NaN and Infinity (it writes null), and what
  it refuses (big integers, keys that are not text, named tuples).

It must never raise anything but ``EncodeError`` and ``DecodeError``, and ``MemoryError`` when memory runs out.
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

#: Maps every digit to "0", keeps minus signs and maps all other bytes to zero, so that plain searches find long runs.
_DIGITS: Final = bytes(48 if 48 <= byte < 58 else byte if byte == 45 else 0 for byte in range(256))
#: The shortest integers that orjson may change: it reads 18446744073709551615 and -9223372036854775808 as they are.
_MANY_DIGITS: Final = b"0" * 20
_MANY_NEGATIVE: Final = b"-" + b"0" * 19
#: An escape that may stand for a character of the key of a tag.
_ESCAPED_TAG: Final = re.compile(rb"\\u00[567]")
#: A marshalled double (type ``g``) whose exponent bits are all ones: NaN or an infinity.
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
    """Decode a document.

    Raises ``DecodeError`` if it is not JSON, nested too deeply or wrongly tagged.
    """
    if type(data) is not bytes:
        if isinstance(data, str):
            return _loads_slowly(data)
        data = bytes(data)
    # Cheap checks first; they clear nearly every large document. A run of 19 digits contains two consecutive ones of
    # every ninth byte, a tag contains an underscore, an escape a backslash.
    if (
        (b"00" in data[::9].translate(_DIGITS) and _has_long_number(data.translate(_DIGITS)))
        or (b"_" in data and b"__type__" in data)
        or (b"\\" in data and b"\\u00" in data and _ESCAPED_TAG.search(data))
    ):
        return _loads_slowly(data)
    try:
        return _orjson_loads(data)
    except orjson.JSONDecodeError:
        return _loads_slowly(data)


def _has_long_number(digits: bytes) -> bool:
    return _MANY_DIGITS in digits or _MANY_NEGATIVE in digits


def _loads_slowly(data: bytes | str) -> Any:
    try:
        return json.loads(data if isinstance(data, str) else data.decode(), object_hook=_untag)
    except RecursionError as error:
        raise DecodeError("JSON nested too deeply") from error
    except DecodeError:
        raise
    except ValueError as error:
        raise DecodeError(f"not JSON: {clean(str(error), 200)}") from error


def _untag(value: dict[str, Any]) -> Any:
    """Convert a tagged object to its value; return other objects unchanged."""
    if len(value) != 2 or "__type__" not in value or "__value__" not in value:
        return value
    tag = value["__type__"]
    decoder = (kombu_registry.type_decoder(tag) or _decoders.get(tag)) if isinstance(tag, str) else None
    if decoder is None:
        raise DecodeError(f"unknown type tag {clean(str(tag), 100)}")
    try:
        return decoder(value["__value__"])
    except Exception as error:  # a registered decoder is user code
        raise DecodeError(f"wrong value of type {tag}: {clean(str(error), 200)}") from error


def loads_untagged(data: bytes) -> Any:
    """Decode a document, tagged objects as they are: no registered code runs.

    Raises ``DecodeError``.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {clean(str(error), 200)}") from error


# hot: bench/protocol.py, once a stored result
def dumps(obj: Any) -> bytes:
    """Encode a value.

    Raises ``EncodeError`` for values without a representation, for example sets.
    """
    try:
        # marshal accepts only plain types, at any depth, and is fast. It raises for UUIDs, dataclasses, enums, named
        # tuples and other subclasses, some of which orjson would write without a tag.
        if _not_finite(_marshal(obj, 2)) is None:
            return _orjson_dumps(obj, _plain_default, _ENCODE_OPTIONS)
    except (ValueError, TypeError, RecursionError):
        # Not an error yet: the standard library decides. It is called outside this block so that its error has no
        # context.
        pass
    return _dumps_slowly(obj)


def _plain_default(value: object) -> object:
    """Tag bytes, the only type that marshal accepts and JSON lacks."""
    if type(value) is bytes and bytes not in (kombu_registry.type_encoders() or ()):
        return _tag_bytes(value)
    raise TypeError(type(value).__name__)


def _dumps_slowly(obj: object) -> bytes:
    try:
        return _encode(obj).encode("ascii")
    except RecursionError as error:
        raise EncodeError("nested too deeply, or contains itself") from error
    except EncodeError:
        raise
    except Exception as error:  # __json__ methods and registered encoders are user code
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
    # Django's lazy translations become text by str(). Django is not imported for this check.
    functional = sys.modules.get("django.utils.functional")
    if functional is not None and isinstance(value, functional.Promise):
        return str(value)
    # Wrapped like this, the stored error reads like kombu's.
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
    """Register a type for JSON, tagged, or untagged with ``tag`` None.

    An untagged value is not restored. Types are searched in the order of registration, so register a subclass before
    its parent. Types registered with kombu, if the program has imported it, come first: a program may have replaced one
    of kombu's types there.
    """
    _encoders[kind] = (tag, encoder)
    if tag is not None:
        _decoders[tag] = decoder if decoder is not None else lambda value: value


_encoders: dict[type[Any], tuple[str | None, Callable[[Any], Any]]] = {}
_decoders: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda value: value.encode(),
    "base64": lambda value: base64.b64decode(value.encode()),
}

# datetime is a subclass of date, so it comes first.
register_type(datetime, "datetime", datetime.isoformat, datetime.fromisoformat)
register_type(date, "date", date.isoformat, lambda value: datetime.fromisoformat(value).date())
register_type(time, "time", time.isoformat, time.fromisoformat)
register_type(Decimal, "decimal", str, Decimal)
register_type(uuid.UUID, "uuid", lambda value: {"hex": value.hex}, lambda value: uuid.UUID(**value))
