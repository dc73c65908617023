"""Checks the size of a message's body, decompresses it and decodes it.

After the content header is decoded, and before ``protocol.message``, which validates the result. Runs in children, and
in the master for the few messages whose task ended without a report of its child. Pure.
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
    """Decode a body.

    ``accept_content`` holds MIME types; ``max_size`` limits the body in bytes, before and after decompression. Raises
    InvalidTaskError for a larger body, SerializationError for one that cannot be decoded or is not accepted.
    """
    plain = unpacked(properties, body, max_size)
    return content.decode(plain, properties.content_type, properties.content_encoding, accept_content)


def unpacked(properties: Properties, body: bytes, max_size: int) -> bytes:
    """Return a body decompressed, or unchanged if it is not compressed.

    Raises InvalidTaskError for more than ``max_size`` bytes, SerializationError for a body that cannot be decompressed.
    """
    headers = properties.headers
    packing = headers.get("compression") if headers else None
    if len(body) > max_size:
        raise InvalidTaskError(f"body has {len(body)} bytes, more than {max_size}")
    return body if packing is None else compression.decompress(body, str(packing), max_size)
