"""From the bytes of a message's body to what they mean: size checked, unpacked, decoded.

Between the content header and ``protocol.message``, which checks the meaning. Pure; runs in children, and in the master
for the few messages whose tasks ended without a child's word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.exceptions import InvalidTaskError
from turbo.protocol import compression, content

if TYPE_CHECKING:
    from turbo.protocol.properties import Properties


def is_packed(properties: Properties) -> bool:
    """Whether the body is compressed."""
    return bool(properties.headers and properties.headers.get("compression") is not None)


def decoded(properties: Properties, body: bytes, accept_content: frozenset[str], max_size: int) -> object:
    """Decode a body. ``accept_content`` are MIME types; ``max_size`` bytes is the most it may have, also unpacked.

    Raises InvalidTaskError for one that is larger, SerializationError for one that does not decode or may not be.
    """
    plain = unpacked(properties, body, max_size)
    return content.decode(plain, properties.content_type, properties.content_encoding, accept_content)


def unpacked(properties: Properties, body: bytes, max_size: int) -> bytes:
    """Return a body as it was before it was compressed.

    Raises InvalidTaskError for one of more than ``max_size`` bytes, SerializationError for one that cannot be unpacked.
    """
    headers = properties.headers
    packing = headers.get("compression") if headers else None
    if len(body) > max_size:
        raise InvalidTaskError(f"body has {len(body)} bytes, more than {max_size}")
    return body if packing is None else compression.decompress(body, str(packing), max_size)
