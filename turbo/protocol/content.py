"""Serializes values to bytes with a content type, and back.

Before it: ``compression``. After it: ``message``. Runs in clients and children, and in the master for remote control
and for tasks whose child died. Pure. It must never decode a content type that is not accepted: ``accept`` is
checked before a decoder is chosen.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from turbo.protocol import kombu_registry, tagged_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

JSON: Final = "application/json"
#: Always accepted, as in Celery: these are not decoded, so they are safe.
TRUSTED: Final = frozenset({"application/data", "application/text"})
_RAW: Final = "application/data"
_NO_CHARSET: Final = frozenset({"binary", "ascii-8bit"})


@dataclass(frozen=True, slots=True)
class Serializer:
    """One serializer.

    ``encode`` or ``decode`` is None if it works in one direction only.
    """

    name: str
    content_type: str
    content_encoding: str
    encode: Callable[[Any], bytes | str] | None
    decode: Callable[[bytes], Any] | None


#: All serializers, by name and by content type. Written by ``register``.
SERIALIZERS: Final[dict[str, Serializer]] = {}


def register(
    name: str,
    encoder: Callable[[Any], bytes | str] | None,
    decoder: Callable[[bytes], Any] | None,
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Add a serializer, or replace one."""
    serializer = Serializer(name, content_type, content_encoding, encoder, decoder)
    SERIALIZERS[name] = serializer
    SERIALIZERS[content_type] = serializer


def find(wanted: str) -> Serializer | None:
    """Find a serializer by name or content type, here or in kombu's registry.

    Returns None if unknown.
    """
    found = SERIALIZERS.get(wanted)
    if found is None:
        theirs = kombu_registry.look_up(wanted)
        if theirs is not None:
            register(*theirs)
            found = SERIALIZERS.get(wanted)
    return found


def accept_set(names: Iterable[str] | None) -> frozenset[str]:
    """Return the content types of ``accept_content``.

    Its entries are serializer names or content types. None means JSON only. Raises ``ImproperlyConfigured`` for an
    unknown name.
    """
    if names is None:
        return frozenset({JSON})
    if isinstance(names, str):
        names = (names,)
    types = set()
    for name in names:
        if "/" in name:
            types.add(name)
        elif (found := find(name)) is not None:
            types.add(found.content_type)
        else:
            raise ImproperlyConfigured(f"accept_content names an unknown serializer: {name!r}")
    return frozenset(types)


def encode(obj: Any, serializer: str) -> tuple[bytes, str, str]:
    """Encode a value; return the body, its content type and its content encoding.

    Raises ``EncodeError``.
    """
    if serializer == "json":
        return tagged_json.dumps(obj), JSON, "utf-8"
    if serializer == "raw" or serializer == _RAW:
        return _encode_raw(obj)
    found = find(serializer)
    if found is None or found.encode is None:
        raise EncodeError(f"No encoder installed for {serializer}")
    try:
        body = found.encode(obj)
        if isinstance(body, str):
            body = body.encode()
    except (EncodeError, ImproperlyConfigured):
        raise
    except Exception as error:  # each serializer raises its own errors, and users add serializers
        raise EncodeError(f"{serializer} cannot encode this value: {error}") from error
    return body, found.content_type, found.content_encoding


def _encode_raw(obj: object) -> tuple[bytes, str, str]:
    if isinstance(obj, str):
        try:
            return obj.encode(), _RAW, "utf-8"
        except UnicodeEncodeError as error:
            raise EncodeError(f"text with lone surrogates: {error}") from error
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return bytes(obj), _RAW, "binary"
    raise EncodeError(f"a raw body must be text or bytes, not {type(obj).__name__}")


# hot: bench/protocol.py, once a task in the child
def decode(body: bytes, content_type: str | None, content_encoding: str | None, accept: frozenset[str]) -> Any:
    """Decode a body. ``accept`` holds content types, see :func:`accept_set`.

    A body without a content type is raw bytes. Raises ``ContentDisallowed`` before decoding if the type is not
    accepted, and ``DecodeError``. If pickle is accepted, decoding may run any code, which may raise any
    ``BaseException`` or end the process.
    """
    if content_type == JSON:
        if JSON not in accept:
            raise _disallowed(JSON)
        return tagged_json.loads(body)
    if not content_type:
        content_type = _RAW
    if content_type not in accept and content_type not in TRUSTED:
        raise _disallowed(content_type)
    found = find(content_type)
    if found is not None and found.content_type == content_type and found.decode is not None:
        if not body:
            raise DecodeError(f"an empty body is not {content_type}")
        try:
            return found.decode(body)
        except DecodeError:
            raise
        except Exception as error:  # each serializer raises its own errors, and users add serializers
            raise DecodeError(f"not {content_type}: {type(error).__name__}: {error}"[:1000]) from error
    charset = (content_encoding or "utf-8").lower()
    if charset in _NO_CHARSET:
        return body
    try:
        return body.decode(charset)
    except (UnicodeError, LookupError, ValueError) as error:
        raise DecodeError(f"not text in {charset[:100]!r}: {error}") from error


def _disallowed(content_type: str) -> ContentDisallowed:
    found = find(content_type)
    shown = content_type[:255] if found is None else f"{found.name} ({found.content_type})"
    return ContentDisallowed(
        f"Refusing to deserialize untrusted content of type {shown}: "
        "it is not accepted here, accept_content lists what is"
    )


def _pickle(obj: object) -> bytes:
    # Protocol 4 is the newest one that every supported producer and consumer reads; Celery uses it too.
    return pickle.dumps(obj, protocol=4)


def _yaml_encode(obj: object) -> str:
    text: str = _yaml().safe_dump(obj)
    return text


def _yaml_decode(body: bytes) -> Any:
    return _yaml().safe_load(body)


def _yaml() -> Any:
    # Imported at first use: the import is slow, and few messages are YAML.
    try:
        import yaml
    except ImportError as error:
        raise ImproperlyConfigured("YAML messages need PyYAML: pip install turbo-worker[yaml]") from error
    return yaml


def _msgpack_encode(obj: object) -> bytes:
    packed: bytes = _msgpack().packb(obj, use_bin_type=True)
    return packed


def _msgpack_decode(body: bytes) -> Any:
    return _msgpack().unpackb(body, raw=False)


def _msgpack() -> Any:
    # Imported at first use: few messages are MessagePack.
    try:
        import msgpack
    except ImportError as error:
        raise ImproperlyConfigured("msgpack messages need msgpack: pip install turbo-worker[msgpack]") from error
    return msgpack


register("json", tagged_json.dumps, tagged_json.loads, JSON, "utf-8")
register("yaml", _yaml_encode, _yaml_decode, "application/x-yaml", "utf-8")
register("msgpack", _msgpack_encode, _msgpack_decode, "application/x-msgpack", "binary")
register("pickle", _pickle, pickle.loads, "application/x-python-serialize", "binary")
register("raw", lambda obj: _encode_raw(obj)[0], None, _RAW, "binary")
register("text", lambda obj: _encode_raw(obj)[0], None, "text/plain", "utf-8")
