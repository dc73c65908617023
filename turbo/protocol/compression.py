"""Compresses and decompresses bodies, with a limit against decompression bombs.

Before it: a body whose ``compression`` header names a MIME type, or the ``compression`` option of a call. After it:
``content``. Runs in clients, in children, and where stored results are read. Pure. It must never return more than the
caller allows, nor hold much more in memory.

Note that ``application/x-gzip`` is a bare zlib stream without gzip's container, because Celery writes it that way.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from turbo.exceptions import DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable

GZIP: Final = "application/x-gzip"
BZIP2: Final = "application/x-bz2"
LZMA: Final = "application/x-lzma"
BROTLI: Final = "application/x-brotli"
ZSTD: Final = "application/zstd"

#: Celery's names -> the MIME type in the header.
ALIASES: Final[dict[str, str]] = {
    "gzip": GZIP,
    "zlib": GZIP,
    "bzip2": BZIP2,
    "bzip": BZIP2,
    "lzma": LZMA,
    "xz": LZMA,
    "brotli": BROTLI,
    "zstd": ZSTD,
    "zstandard": ZSTD,
}

#: Most bytes of memory for the dictionary of an LZMA stream; the highest preset needs 65 MiB.
_LZMA_MEMORY: Final = 128 * 1024 * 1024


#: The content size that the zstandard package reports for a frame without one.
_SIZE_UNKNOWN: Final = 2**64 - 1


class _Stream(Protocol):
    """The common interface of the standard library's decompressors."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def mime_type(name: str) -> str:
    """Return the MIME type for a name, alias or MIME type."""
    return ALIASES.get(name, name)


def is_installed(name: str) -> bool:
    """Whether a known method (name, alias or MIME type) can be used in this process."""
    mime = ALIASES.get(name, name)
    return mime not in _PACKAGES or _load(mime) is not None


def compress(data: bytes, name: str) -> tuple[bytes, str]:
    """Compress ``data``; return the result and the MIME type for the header.

    ``name`` is the method's name, alias or MIME type. Raises ``EncodeError`` for an unknown method, and for one whose
    package is not installed.
    """
    mime = ALIASES.get(name, name)
    if mime == GZIP:
        return zlib.compress(data), mime
    if mime == BZIP2:
        return bz2.compress(data), mime
    if mime == LZMA:
        return lzma.compress(data), mime
    if mime in _PACKAGES:
        module = _load(mime)
        if module is None:
            raise EncodeError(f"compression {name!r} needs one of: {', '.join(_PACKAGES[mime])}")
        packed: bytes = module.compress(data)
        return packed, mime
    raise EncodeError(f"unknown compression {name!r}")


def decompress(data: bytes, mime: str, limit: int) -> bytes:
    """Undo :func:`compress`, up to ``limit`` bytes.

    Raises ``DecodeError`` if the result would be larger, if the data are damaged or truncated, and if the method is
    unknown or its package is not installed.
    """
    mime = ALIASES.get(mime, mime)
    decoder = _DECODERS.get(mime)
    if decoder is None:
        raise DecodeError(f"unknown compression {mime[:100]!r}")
    try:
        result = decoder(data, limit)
    except DecodeError:
        raise
    except Exception as error:  # each package raises its own classes
        raise DecodeError(f"damaged {mime} data: {error}") from error
    if len(result) > limit:
        raise DecodeError(f"{mime} data decompress to more than {limit} bytes")
    return result


def _gzip(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    # One byte more than allowed shows that the data are too large; a length of 0 would mean "unlimited".
    result = stream.decompress(data, limit + 1)
    if len(result) <= limit and not stream.eof:
        raise DecodeError("application/x-gzip data are truncated")
    return result


def _streams(data: bytes, limit: int, make: Callable[[], _Stream]) -> bytes:
    """Decompress consecutive streams, as the one-shot functions of bz2 and lzma do."""
    parts: list[bytes] = []
    room = limit + 1
    while data:
        stream = make()
        try:
            part = stream.decompress(data, max_length=room)
        except Exception:
            # Bytes after a complete stream that are not a stream are padding.
            if parts:
                break
            raise
        parts.append(part)
        room -= len(part)
        if room <= 0:
            break
        if not stream.eof:
            raise DecodeError("compressed data are truncated")
        data = stream.unused_data
    if not parts:
        raise DecodeError("compressed data are empty")
    return b"".join(parts)


def _bzip2(data: bytes, limit: int) -> bytes:
    return _streams(data, limit, bz2.BZ2Decompressor)


def _lzma(data: bytes, limit: int) -> bytes:
    return _streams(data, limit, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY))


def _zstd(data: bytes, limit: int) -> bytes:
    module = _required(ZSTD)
    if module.__name__ == "zstandard":
        # The reader does not detect truncation, so compare with the frame's content size, if it has one.
        announced = module.get_frame_parameters(data).content_size
        with module.ZstdDecompressor(max_window_size=2**27).stream_reader(data, read_across_frames=True) as reader:
            result: bytes = reader.read(limit + 1)
        if len(result) <= limit and len(result) < announced != _SIZE_UNKNOWN:
            raise DecodeError("application/zstd data are truncated")
        return result
    return _streams(data, limit, module.ZstdDecompressor)


def _brotli(data: bytes, limit: int) -> bytes:
    module = _required(BROTLI)
    stream = module.Decompressor()
    try:
        # The limit exists since Brotli 1.2; without it a few bytes can become gigabytes.
        result: bytes = stream.process(data, output_buffer_limit=limit + 1)
    except TypeError as error:
        raise DecodeError("this version of Brotli cannot limit its output; install 1.2 or later") from error
    while len(result) <= limit and not stream.is_finished():
        more: bytes = stream.process(b"", output_buffer_limit=limit + 1 - len(result))
        if not more:
            raise DecodeError("application/x-brotli data are truncated")
        result += more
    return result


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    GZIP: _gzip,
    BZIP2: _bzip2,
    LZMA: _lzma,
    ZSTD: _zstd,
    BROTLI: _brotli,
}

#: Methods outside the standard library (which has zstd since Python 3.14) -> modules, best first.
_PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    ZSTD: ("compression.zstd", "backports.zstd", "zstandard"),
    BROTLI: ("brotli",),
}


def _load(mime: str) -> Any:
    """Return the first installed module, or None.

    Imported at first use, since few programs need it.
    """
    for name in _PACKAGES[mime]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _required(mime: str) -> Any:
    module = _load(mime)
    if module is None:
        raise DecodeError(f"{mime} needs one of: {', '.join(_PACKAGES[mime])}")
    return module
