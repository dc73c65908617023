"""Documents that Celery 5.7 stores compressed (``result_compression``): how to tell, and how to open them.

Used by the Redis store when it may not overwrite a SUCCESS, and by the clients that read documents. Pure.
Form: the mark, the MIME type of the compression, a zero byte, the compressed document.
"""

from __future__ import annotations

from typing import Final

from turbo.exceptions import DecodeError
from turbo.protocol.compression import decompress

MARK: Final = b"\x00celery-compressed\x00"

#: Largest document that is opened, in bytes; Redis itself allows 512 MiB a value.
LIMIT: Final = 512 * 1024 * 1024
#: The same for the master, which only looks at the state.
_PEEK_LIMIT: Final = 32 * 1024 * 1024


def open_document(stored: bytes, limit: int) -> bytes:
    """Return the document itself, compressed or not; at most ``limit`` bytes. Raises ``DecodeError``."""
    if not stored.startswith(MARK):
        return stored
    mime, mark, body = stored[len(MARK) :].partition(b"\x00")
    if not mark:
        raise DecodeError("a compressed document does not name its compression")
    return decompress(body, mime.decode("ascii", "replace"), limit)


def says_success(stored: bytes) -> bool:
    """Whether a compressed document tells of SUCCESS; one that cannot be opened does not."""
    try:
        document = open_document(stored, _PEEK_LIMIT)
    except DecodeError:
        return False
    _, key, rest = document.partition(b"status")
    return bool(key) and b"SUCCESS" in rest[:16]
