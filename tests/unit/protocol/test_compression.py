"""Compressed bodies: Celery's names, damage, and bombs."""

from __future__ import annotations

import bz2
import lzma
import sys
import types
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from turbo.exceptions import DecodeError, EncodeError
from turbo.protocol import compression
from turbo.protocol.compression import ALIASES, compress, decompress, mime_type

STANDARD = {"application/x-gzip": zlib, "application/x-bz2": bz2, "application/x-lzma": lzma}
DATA = b"some text, and again some text " * 50


@pytest.mark.row("WP11")
@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", *STANDARD])
def test_names_stand_for_celerys_types(name: str) -> None:
    packed, mime = compress(DATA, name)
    assert mime == mime_type(name) == ALIASES.get(name, name)
    assert STANDARD[mime].decompress(packed) == DATA
    assert decompress(packed, mime, len(DATA)) == decompress(packed, name, len(DATA)) == DATA


@pytest.mark.row("WP11")
def test_gzip_is_bare_zlib() -> None:
    assert compress(b"a", "gzip")[0] == zlib.compress(b"a")


@pytest.mark.parametrize("mime", STANDARD)
def test_the_limit_is_exact(mime: str) -> None:
    packed = STANDARD[mime].compress(DATA)
    assert decompress(packed, mime, len(DATA)) == DATA
    with pytest.raises(DecodeError, match="more than"):
        decompress(packed, mime, len(DATA) - 1)
    assert decompress(STANDARD[mime].compress(b""), mime, 0) == b""
    with pytest.raises(DecodeError):
        decompress(packed, mime, 0)


@pytest.mark.parametrize("mime", STANDARD)
def test_a_bomb_costs_no_more_than_the_limit(mime: str) -> None:
    import tracemalloc

    packed = STANDARD[mime].compress(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="more than"):
            decompress(packed, mime, 1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mime", STANDARD)
def test_every_cut_is_a_decode_error(mime: str) -> None:
    packed = STANDARD[mime].compress(DATA)
    for size in range(len(packed)):
        with pytest.raises(DecodeError):
            decompress(packed[:size], mime, 10_000)


@pytest.mark.parametrize("mime", STANDARD)
@pytest.mark.parametrize("junk", [b"", b"junk", b"\x78\x9c", b"BZh9", b"\xfd7zXZ\x00", bytes(100)], ids=repr)
def test_junk_is_a_decode_error(mime: str, junk: bytes) -> None:
    with pytest.raises(DecodeError):
        decompress(junk, mime, 10_000)


@pytest.mark.parametrize("mime", ["application/x-bz2", "application/x-lzma"])
def test_streams_may_follow_one_another(mime: str) -> None:
    packed = STANDARD[mime].compress(b"one") + STANDARD[mime].compress(b"two")
    assert decompress(packed, mime, 6) == STANDARD[mime].decompress(packed) == b"onetwo"
    assert decompress(packed + b"padding", mime, 6) == b"onetwo"
    with pytest.raises(DecodeError, match="more than"):
        decompress(packed, mime, 5)


def test_an_lzma_stream_may_not_ask_for_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * 1024 * 1024}]
    head = lzma.compress(b"x", lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    assert decompress(head, "lzma", 10) == b"x"
    with pytest.raises(DecodeError):
        decompress(lzma.compress(b"x", lzma.FORMAT_XZ, filters=filters), "lzma", 10)


@pytest.mark.parametrize("name", ["", "deflate", "identity", "application/json", "x" * 5000])
def test_unknown_methods(name: str) -> None:
    with pytest.raises(DecodeError, match="unknown"):
        decompress(b"", name, 10)
    with pytest.raises(EncodeError, match="unknown"):
        compress(b"", name)


@pytest.mark.parametrize("name", ["zstd", "zstandard", "brotli"])
def test_missing_packages_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd", "zstandard", "brotli"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DecodeError, match="needs one of"):
        decompress(b"", name, 10)
    with pytest.raises(EncodeError, match="needs one of"):
        compress(b"", name)


class Reader:
    """A stand-in for the reader of the zstandard package."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        return zlib.decompress(self.data)[:size]


def module(name: str, **attributes: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(attributes)
    return made


def with_zstandard(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZstdDecompressor:
        def __init__(self, max_window_size: int) -> None:
            assert max_window_size

        def stream_reader(self, data: bytes, read_across_frames: bool) -> Reader:
            return Reader(data)

    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)

    def get_frame_parameters(data: bytes) -> types.SimpleNamespace:
        return types.SimpleNamespace(content_size=len(DATA))

    fake = module(
        "zstandard",
        ZstdDecompressor=ZstdDecompressor,
        compress=zlib.compress,
        get_frame_parameters=get_frame_parameters,
    )
    monkeypatch.setitem(sys.modules, "zstandard", fake)


def with_backport(monkeypatch: pytest.MonkeyPatch) -> None:
    # bz2 has the interface of the standard library's zstd
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "backports", module("backports"))
    fake = module("backports.zstd", ZstdDecompressor=bz2.BZ2Decompressor, compress=bz2.compress)
    monkeypatch.setitem(sys.modules, "backports.zstd", fake)


@pytest.mark.parametrize("package", [with_zstandard, with_backport])
def test_zstd_by_whichever_package(
    package: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(monkeypatch)
    packed, mime = compress(DATA, "zstd")
    assert mime == "application/zstd"
    assert decompress(packed, mime, len(DATA)) == DATA
    with pytest.raises(DecodeError, match="more than"):
        decompress(packed, mime, len(DATA) - 1)
    with pytest.raises(DecodeError, match="damaged"):
        decompress(b"junk", mime, 10)
    with pytest.raises(DecodeError, match="truncated"):
        decompress(compress(DATA[:-1], "zstd")[0] if package is with_zstandard else packed[:-1], mime, len(DATA))


class BoundedBrotli:
    """A stand-in for Brotli 1.2: gives at most what is asked for."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj()

    def process(self, data: bytes, output_buffer_limit: int) -> bytes:
        return self.inner.decompress(self.inner.unconsumed_tail + data, min(output_buffer_limit, 100))

    def is_finished(self) -> bool:
        return self.inner.eof


class UnboundedBrotli:
    def process(self, data: bytes) -> bytes:
        raise AssertionError("must not be asked without a bound")


def test_brotli_is_bounded_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = module("brotli", Decompressor=BoundedBrotli, compress=zlib.compress)
    monkeypatch.setitem(sys.modules, "brotli", fake)
    packed, mime = compress(DATA, "brotli")
    assert decompress(packed, mime, len(DATA)) == DATA
    with pytest.raises(DecodeError, match="more than"):
        decompress(packed, mime, len(DATA) - 1)
    with pytest.raises(DecodeError, match="truncated"):
        decompress(packed[:-8], mime, 10_000)
    monkeypatch.setattr(fake, "Decompressor", UnboundedBrotli)
    with pytest.raises(DecodeError, match=r"1\.2"):
        decompress(packed, mime, 10_000)


def test_every_method_has_a_decoder() -> None:
    assert set(ALIASES.values()) == set(compression._DECODERS)
