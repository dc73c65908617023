"""The route of a parked message, from a header that anybody may have written."""

from __future__ import annotations

import pytest

from turbo.protocol.own_headers import ROUTE, route_of


def test_a_route_is_an_exchange_and_a_key() -> None:
    assert route_of({ROUTE: ["orders", "new"], "task": "t"}) == ("orders", "new")


@pytest.mark.parametrize("headers", [None, {}, *({ROUTE: value} for value in ("ab", ["a"], ["a", "b", "c"], ["a", 1]))])
def test_any_other_header_is_no_route(headers: dict[str, object] | None) -> None:
    assert route_of(headers) is None
