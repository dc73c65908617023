"""Compressed bodies, by the names and MIME types that Celery uses.

Place: beneath ``protocol.content``; producers compress, children decompress under a cap that is enforced while
streaming, so that a bomb of a few kilobytes costs at most the cap. Note ``application/x-gzip``: it is a bare zlib
stream, no gzip file. Pure.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from typing import Any, Final

from turbo.exceptions import DecodeError, EncodeError

_ALIASES: Final = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
    "brotli": "application/x-brotli",
}
_PIECE: Final = 65_536


def mime_of(name: str) -> str:
    """The MIME type of a compression given by any of its names. Raises EncodeError for an unknown one."""
    mime = _ALIASES.get(name, name)
    if mime not in _ALIASES.values():
        raise EncodeError(f"unknown compression {name!r}; known are {', '.join(sorted(_ALIASES))}")
    return mime


def _optional(mime: str) -> Any:
    """The module for a compression outside the standard library. Imported here, since few messages need it."""
    names = ("compression.zstd", "backports.zstd") if mime == "application/zstd" else ("brotli",)
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DecodeError(f"{mime} needs the package {names[-1]}, which is not installed")


def compress(data: bytes, name: str) -> tuple[bytes, str]:
    """Compress ``data``; return it with the MIME type for the ``compression`` header. Raises EncodeError."""
    mime = mime_of(name)
    if mime == "application/x-gzip":
        return zlib.compress(data), mime
    if mime == "application/x-bz2":
        return bz2.compress(data), mime
    if mime == "application/x-lzma":
        return lzma.compress(data), mime
    try:
        return _optional(mime).compress(data), mime
    except DecodeError as error:
        raise EncodeError(str(error)) from None


def decompress(data: bytes, mime: str, limit: int) -> bytes:
    """Decompress at most ``limit`` bytes. Raises DecodeError beyond it, and for anything broken."""
    mime = _ALIASES.get(mime, mime)
    try:
        if mime == "application/x-gzip":
            return _bounded(zlib.decompressobj(), data, limit)
        if mime == "application/x-bz2":
            return _bounded(bz2.BZ2Decompressor(), data, limit)
        if mime == "application/x-lzma":
            return _bounded(lzma.LZMADecompressor(), data, limit)
        if mime == "application/zstd":
            return _bounded(_optional(mime).ZstdDecompressor(), data, limit)
        if mime == "application/x-brotli":
            return _brotli(_optional(mime), data, limit)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise DecodeError(f"body is not {mime}: {error}") from error
    raise DecodeError(f"unknown compression {mime[:80]!r}")


def _bounded(machine: Any, data: bytes, limit: int) -> bytes:
    """Feed one decompressor, counting what comes out."""
    parts: list[bytes] = []
    size = 0
    feed = data
    while True:
        piece = machine.decompress(feed, _PIECE)
        size += len(piece)
        if size > limit:
            raise DecodeError(f"body is larger than {limit} bytes once decompressed")
        parts.append(piece)
        if machine.eof:
            return b"".join(parts)
        feed = getattr(machine, "unconsumed_tail", b"")
        if not piece and (feed or getattr(machine, "needs_input", True)):
            raise DecodeError("compressed body ends early")


def _brotli(module: Any, data: bytes, limit: int) -> bytes:
    machine = module.Decompressor()
    parts: list[bytes] = []
    size = 0
    for at in range(0, len(data), 1024):
        piece = machine.process(data[at : at + 1024])
        size += len(piece)
        if size > limit:
            raise DecodeError(f"body is larger than {limit} bytes once decompressed")
        parts.append(piece)
    if not machine.is_finished():
        raise DecodeError("compressed body ends early")
    return b"".join(parts)
