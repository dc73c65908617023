"""The bounds of a publisher."""

from __future__ import annotations

import pytest

from turbo.policy.publisher_room import PublisherRoom


@pytest.mark.parametrize(("messages", "size", "full"), [(9, 100, False), (10, 1, True), (1, 101, True)])
def test_it_is_full_at_either_bound(messages: int, size: int, full: bool) -> None:
    assert PublisherRoom(10, 100).is_full(messages, size) is full


@pytest.mark.parametrize(("messages", "size"), [(5, 1), (1, 50)])
def test_it_is_congested_from_half_of_either_bound_to_a_quarter_of_both(messages: int, size: int) -> None:
    room = PublisherRoom(10, 100)
    room.grown(4, 49)
    assert not room.congested
    assert not room.shrunk(0, 0)
    room.grown(messages, size)
    assert room.congested
    assert not room.shrunk(3, 0)
    assert not room.shrunk(0, 26)
    assert room.congested
    assert room.shrunk(2, 25)
    assert not room.congested
    assert not room.shrunk(0, 0), "said once"


def test_exactly_a_quarter_of_both_bounds_ends_the_congestion() -> None:
    room = PublisherRoom(8, 100)
    room.grown(4, 50)
    assert room.congested
    assert room.shrunk(2, 25)
