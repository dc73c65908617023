"""Finds serializers and JSON types that a program has registered with kombu.

Programs that move from Celery register them there. Used by ``content`` for a name or content type that turbo does not
have, and by ``tagged_json`` for types that JSON lacks. It reads kombu's registries only if the program has imported
kombu, and must never import kombu itself. Pure.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Found(NamedTuple):
    """One serializer of kombu's registry."""

    name: str
    encoder: Callable[[Any], bytes | str] | None
    decoder: Callable[[bytes], Any] | None
    content_type: str
    content_encoding: str


def look_up(wanted: str) -> Found | None:
    """Find a serializer by name or content type.

    Returns None without kombu, or if kombu has no such serializer.
    """
    module = sys.modules.get("kombu.serialization")
    registry = getattr(module, "registry", None)
    if registry is None:
        return None
    name = registry.type_to_name.get(wanted, wanted)
    content_type = registry.name_to_type.get(name)
    if content_type is None:
        return None
    codec = registry._encoders.get(name)  # noqa: SLF001 - kombu has no public way
    decoder = registry._decoders.get(content_type)  # noqa: SLF001
    if codec is None:
        return Found(name, None, decoder, content_type, "utf-8")
    return Found(name, codec.encoder, decoder, content_type, codec.content_encoding)


def type_encoders() -> Mapping[type[Any], tuple[str | None, Callable[[Any], Any]]] | None:
    """Return kombu's JSON encoders by type, its own and registered ones.

    None without kombu.
    """
    return getattr(sys.modules.get("kombu.utils.json"), "_encoders", None)


def type_decoder(tag: str) -> Callable[[Any], Any] | None:
    """Return kombu's JSON decoder for a type tag.

    None without kombu, or without such a tag.
    """
    decoders: Mapping[str, Callable[[Any], Any]] = getattr(sys.modules.get("kombu.utils.json"), "_decoders", {})
    return decoders.get(tag)
