"""Content types: which bytes a body is made of, and which of them may be decoded.

Place: between a body's bytes and ``protocol.message``. The content type of each message selects the decoder, and
``accept_content`` is enforced before anything is decoded: pickle runs code. Pure; PyYAML and msgpack are imported
when the first such body comes, because most workers never see one.
"""

from __future__ import annotations

import codecs
import importlib
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from turbo.protocol import tagged_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class Serializer:
    """One way to make bytes of a value and back."""

    name: str
    content_type: str
    content_encoding: str
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def _module(name: str, package: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"{package} is not installed; install turbo-worker[{extra}] to use it"
        ) from error


def _yaml_dumps(value: Any) -> bytes:
    yaml = _module("yaml", "PyYAML", "yaml")
    text: str = yaml.safe_dump(value)
    return text.encode()


def _yaml_loads(data: bytes) -> Any:
    return _module("yaml", "PyYAML", "yaml").safe_load(data)


def _msgpack_dumps(value: Any) -> bytes:
    packed: bytes = _module("msgpack", "msgpack", "msgpack").packb(value, use_bin_type=True)
    return packed


def _msgpack_loads(data: bytes) -> Any:
    return _module("msgpack", "msgpack", "msgpack").unpackb(data, raw=False)


def _pickle_dumps(value: Any) -> bytes:
    return pickle.dumps(value, protocol=4)


def _same(data: bytes) -> bytes:
    return data


def _raw(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError(f"raw content must be bytes or str, not {type(value).__name__}")


def _text(data: bytes) -> str:
    return data.decode()


_ALL: Final = (
    Serializer("json", "application/json", "utf-8", tagged_json.dumps, tagged_json.loads),
    Serializer("yaml", "application/x-yaml", "utf-8", _yaml_dumps, _yaml_loads),
    Serializer("pickle", "application/x-python-serialize", "binary", _pickle_dumps, pickle.loads),
    Serializer("msgpack", "application/x-msgpack", "binary", _msgpack_dumps, _msgpack_loads),
    Serializer("raw", "application/data", "binary", _raw, _same),
    Serializer("text", "text/plain", "utf-8", _raw, _text),
)
#: Serializers by name and by content type.
SERIALIZERS: Final[dict[str, Serializer]] = {
    **{one.name: one for one in _ALL},
    **{one.content_type: one for one in _ALL},
}
_JSON: Final = "application/json"


def accept_set(names: Iterable[str]) -> frozenset[str]:
    """The content types of ``accept_content``, whose items are names or types.

    Raises ImproperlyConfigured for an unknown one.
    """
    found = set()
    for name in names:
        known = SERIALIZERS.get(name)
        if known is None:
            raise ImproperlyConfigured(f"accept_content names {name!r}, which is no known serializer")
        found.add(known.content_type)
    return frozenset(found)


def encode(value: object, serializer: str) -> tuple[bytes, str, str]:
    """Encode a value; return (body, content type, content encoding). Raises EncodeError."""
    known = SERIALIZERS.get(serializer)
    if known is None:
        raise EncodeError(f"unknown serializer {serializer!r}")
    try:
        return known.dumps(value), known.content_type, known.content_encoding
    except (EncodeError, ImproperlyConfigured):
        raise
    except Exception as error:  # a serializer, or the value's own code, may raise anything
        raise EncodeError(f"{type(error).__name__}: {error}") from error


def decode(body: bytes, content_type: str | None, content_encoding: str | None, accept: frozenset[str]) -> Any:
    """Decode a body. Raises ContentDisallowed before touching it, DecodeError for whatever goes wrong after."""
    kind = content_type or "application/data"
    if kind not in accept and kind not in ("application/data", "text/plain"):
        raise ContentDisallowed(f"content type {kind[:80]!r} is not among accept_content")
    if kind == _JSON and content_encoding in ("utf-8", None, "binary", "us-ascii", "UTF-8"):
        return tagged_json.loads(body)
    known = SERIALIZERS.get(kind)
    if known is None:
        raise ContentDisallowed(f"content type {kind[:80]!r} is unknown")
    try:
        if known.content_encoding == "utf-8" and content_encoding not in ("utf-8", None, "binary"):
            body = codecs.decode(body, content_encoding or "utf-8").encode()
        return known.loads(body)
    except (DecodeError, ImproperlyConfigured):
        raise
    except RecursionError:
        raise DecodeError(f"{known.name} body is nested too deeply") from None
    except Exception as error:  # pickle and YAML raise whatever the body makes them
        raise DecodeError(f"body is no {known.name}: {type(error).__name__}: {str(error)[:200]}") from error
