"""A message's body: its size, also unpacked, and its meaning."""

from __future__ import annotations

import zlib

import pytest

from turbo.exceptions import ContentDisallowed, DecodeError, InvalidTaskError
from turbo.protocol.body import decoded, is_packed
from turbo.protocol.properties import Properties

JSON = frozenset({"application/json"})
TEXT = b'[[1], {}, {"callbacks": null}]'


def json_properties(**headers: str) -> Properties:
    return Properties(content_type="application/json", content_encoding="utf-8", headers={**headers})


def test_a_body_is_decoded() -> None:
    assert decoded(json_properties(), TEXT, JSON, 1000) == [[1], {}, {"callbacks": None}]
    assert not is_packed(json_properties())


def test_a_packed_body_is_unpacked_first() -> None:
    packed = json_properties(compression="application/x-gzip")
    assert is_packed(packed)
    assert decoded(packed, zlib.compress(TEXT), JSON, 1000) == [[1], {}, {"callbacks": None}]


def test_a_body_has_its_largest_size_packed_and_unpacked() -> None:
    assert decoded(json_properties(), TEXT, JSON, len(TEXT))
    with pytest.raises(InvalidTaskError, match=f"{len(TEXT)} bytes, more than {len(TEXT) - 1}"):
        decoded(json_properties(), TEXT, JSON, len(TEXT) - 1)
    large = b"[" + b"1," * 5000 + b"1]"
    with pytest.raises(DecodeError, match="more than 1000 bytes"):
        decoded(json_properties(compression="application/x-gzip"), zlib.compress(large), JSON, 1000)


def test_content_that_is_not_accepted_is_refused() -> None:
    with pytest.raises(ContentDisallowed):
        decoded(json_properties(), TEXT, frozenset({"application/x-yaml"}), 1000)
