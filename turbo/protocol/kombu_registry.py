"""Serializers and types that the program has registered with kombu, for programs that did so before they came to turbo.

Asked by ``content`` for a name or content type that turbo does not know, and by ``tagged_json`` for values that JSON
lacks. kombu is looked at where the program has
loaded it, and never loaded from here. Pure.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Found(NamedTuple):
    """What kombu knows of one serializer."""

    name: str
    encoder: Callable[[Any], bytes | str] | None
    decoder: Callable[[bytes], Any] | None
    content_type: str
    content_encoding: str


def look_up(wanted: str) -> Found | None:
    """Find a serializer by its name or its content type; None without kombu, and for what kombu does not know."""
    module = sys.modules.get("kombu.serialization")
    registry = getattr(module, "registry", None)
    if registry is None:
        return None
    name = registry.type_to_name.get(wanted, wanted)
    content_type = registry.name_to_type.get(name)
    if content_type is None:
        return None
    codec = registry._encoders.get(name)  # noqa: SLF001 - kombu has no other way to ask
    decoder = registry._decoders.get(content_type)  # noqa: SLF001
    if codec is None:
        return Found(name, None, decoder, content_type, "utf-8")
    return Found(name, codec.encoder, decoder, content_type, codec.content_encoding)


def type_encoders() -> Mapping[type[Any], tuple[str | None, Callable[[Any], Any]]] | None:
    """What ``kombu.utils.json.register_type`` was told of writing types, its own among them; None without kombu."""
    return getattr(sys.modules.get("kombu.utils.json"), "_encoders", None)


def type_decoder(tag: str) -> Callable[[Any], Any] | None:
    """What it was told of reading the values that a tag marks; None without kombu, or without such a type."""
    decoders: Mapping[str, Callable[[Any], Any]] = getattr(sys.modules.get("kombu.utils.json"), "_decoders", {})
    return decoders.get(tag)
