"""Bodies by their content type: what is accepted, what decodes, and that nothing is decoded before it is accepted."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from turbo.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from turbo.protocol import content
from turbo.protocol.content import SERIALIZERS, accept_set, decode, encode, register

ALL = accept_set(["json", "yaml", "pickle", "msgpack", "text"])


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled although not accepted",)


class Quits:
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


@pytest.mark.row("WP6", "WP7")
def test_accept_content() -> None:
    assert accept_set(None) == {"application/json"}
    assert accept_set(["json", "application/x-own"]) == {"application/json", "application/x-own"}
    assert accept_set("pickle") == {"application/x-python-serialize"}
    assert accept_set([]) == frozenset()
    with pytest.raises(ImproperlyConfigured, match="jsn"):
        accept_set(["jsn"])


@pytest.mark.row("WP6")
@pytest.mark.parametrize(
    ("name", "kind", "encoding"),
    [
        ("json", "application/json", "utf-8"),
        ("yaml", "application/x-yaml", "utf-8"),
        ("pickle", "application/x-python-serialize", "binary"),
        ("msgpack", "application/x-msgpack", "binary"),
        ("application/json", "application/json", "utf-8"),
    ],
)
def test_serializers_go_there_and_back(name: str, kind: str, encoding: str) -> None:
    value = [[1, "ü", None, 2.5], {"a": [True]}, None]
    body, *types = encode(value, name)
    assert types == [kind, encoding]
    assert decode(body, kind, encoding, ALL) == value


@pytest.mark.parametrize(
    ("value", "body", "encoding"),
    [("ü", "ü".encode(), "utf-8"), (b"\xff", b"\xff", "binary"), (bytearray(b"a"), b"a", "binary")],
)
def test_raw_bodies(value: object, body: bytes, encoding: str) -> None:
    assert encode(value, "raw") == encode(value, "application/data") == (body, "application/data", encoding)
    assert decode(body, "application/data", encoding, frozenset()) == (value if isinstance(value, str) else body)


def test_text_bodies() -> None:
    assert encode("ü", "text") == ("ü".encode(), "text/plain", "utf-8")
    assert decode(b"\xfc", "text/plain", "Latin-1", ALL) == "ü"
    assert decode(b"", "text/plain", None, ALL) == ""
    assert decode(b"\xff", "text/plain", "binary", ALL) == b"\xff"
    with pytest.raises(ContentDisallowed):
        decode(b"a", "text/plain", None, accept_set(None))


def test_no_content_type_means_bytes_as_they_are() -> None:
    assert decode(b"\xff", None, "binary", frozenset()) == b"\xff"
    assert decode(b"a", "", None, frozenset()) == "a"


@pytest.mark.row("WP7")
@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-python-serialize", "evil/type", "pickle", "x" * 9999]
)
def test_nothing_is_decoded_that_is_not_accepted(kind: str) -> None:
    with pytest.raises(ContentDisallowed) as caught:
        decode(pickle.dumps(Bomb()), kind, "binary", frozenset({"application/x-yaml"}))
    assert len(str(caught.value)) < 500


@pytest.mark.row("WP8")
@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        ("application/json", "utf-8", b""),
        ("application/json", "utf-8", b"{"),
        ("application/x-yaml", "utf-8", b""),
        ("application/x-yaml", "utf-8", b"{"),
        ("application/x-yaml", "utf-8", b"!!python/object/apply:os.system [ls]"),
        ("application/x-yaml", "utf-8", b"[" * 500),
        ("application/x-msgpack", "binary", b""),
        ("application/x-msgpack", "binary", b"\xc1"),
        ("application/x-msgpack", "binary", b"\x91" * 100_000),
        ("application/x-msgpack", "binary", b"\xdd\xff\xff\xff\xff"),
        ("application/x-python-serialize", "binary", b""),
        ("application/x-python-serialize", "binary", b"cnothing\nthere\n."),
        ("application/x-python-serialize", "binary", b"\x80\x04]" + b"\x94]" * 10),
        ("text/plain", "no-such-charset", b"a"),
        ("text/plain", "utf-8", b"\xff"),
        ("text/plain", "a\0b", b"x"),
        ("text/plain", "base64", b"x"),
        ("text/plain", "idna", b"\xff" * 9),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_does_not_decode_is_a_decode_error(kind: str, encoding: str, body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(body, kind, encoding, ALL)


def test_code_in_an_accepted_pickle_runs_and_may_end_the_process() -> None:
    with pytest.raises(SystemExit):
        decode(pickle.dumps(Quits()), "application/x-python-serialize", "binary", ALL)


def test_json_is_utf8_whatever_the_encoding_says() -> None:
    for encoding in ("latin-1", "no-such", None, ""):
        assert decode('"ü"'.encode(), "application/json", encoding, ALL) == "ü"


@pytest.mark.parametrize(
    ("serializer", "value"),
    [
        ("json", {1}),
        ("yaml", object()),
        ("msgpack", object()),
        ("msgpack", 2**70),
        ("pickle", lambda: 1),
        ("raw", 5),
        ("raw", "\ud800"),
        ("text", 5),
        ("nothing", 1),
        ("application/x-nothing", 1),
    ],
)
def test_what_cannot_be_encoded_is_an_encode_error(serializer: str, value: object) -> None:
    with pytest.raises(EncodeError):
        encode(value, serializer)


@pytest.mark.parametrize(("name", "package"), [("yaml", "yaml"), ("msgpack", "msgpack")])
def test_missing_packages_are_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, kind, encoding = encode([1], name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install"):
        encode([1], name)
    with pytest.raises(DecodeError, match=r"pip install"):
        decode(body, kind, encoding, ALL)


def test_serializers_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "SERIALIZERS", SERIALIZERS.copy())

    def refuse(_: object) -> bytes:
        raise EncodeError("mine")

    def broken(_: bytes) -> object:
        raise DecodeError("mine")

    register("hex", lambda value: value.hex(), lambda body: bytes.fromhex(body.decode()), "application/x-hex")
    assert encode(b"\x01\x02", "hex") == (b"0102", "application/x-hex", "utf-8")
    assert decode(b"0102", "application/x-hex", "utf-8", accept_set(["hex"])) == b"\x01\x02"
    register("strict", refuse, broken, "application/x-strict")
    with pytest.raises(EncodeError, match="mine"):
        encode(1, "strict")
    with pytest.raises(DecodeError, match="mine"):
        decode(b"x", "application/x-strict", None, accept_set(["strict"]))
    register("one-way", None, bytes, "application/x-one-way")
    with pytest.raises(EncodeError, match="one-way"):
        encode(1, "one-way")
