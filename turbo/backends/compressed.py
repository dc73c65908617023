"""Reads documents that Celery 5.7 stores compressed (``result_compression``).

Used by the Redis store when it may not overwrite a SUCCESS, and by clients. Pure. Format: the mark, the MIME type of
the compression, a zero byte, the compressed document.
"""

from __future__ import annotations

from typing import Final

from turbo.exceptions import DecodeError
from turbo.protocol.compression import decompress

MARK: Final = b"\x00celery-compressed\x00"

#: Largest document that is decompressed, in bytes; Redis allows 512 MiB per value.
LIMIT: Final = 512 * 1024 * 1024
#: The same limit in the master, which only reads the state.
_PEEK_LIMIT: Final = 32 * 1024 * 1024


def open_document(stored: bytes, limit: int) -> bytes:
    """Return the document, decompressed if necessary to at most ``limit`` bytes.

    Raises ``DecodeError``.
    """
    if not stored.startswith(MARK):
        return stored
    mime, mark, body = stored[len(MARK) :].partition(b"\x00")
    if not mark:
        raise DecodeError("the stored document is compressed but does not name its compression")
    return decompress(body, mime.decode("ascii", "replace"), limit)


def is_success(stored: bytes) -> bool:
    """Return whether the state in a compressed document is SUCCESS.

    False if it cannot be decompressed.
    """
    try:
        document = open_document(stored, _PEEK_LIMIT)
    except DecodeError:
        return False
    _, key, rest = document.partition(b"status")
    return bool(key) and b"SUCCESS" in rest[:16]
