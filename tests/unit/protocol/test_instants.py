"""``eta`` and ``expires`` as aware UTC datetimes, or a ValueError."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from turbo.protocol.instants import parse_eta

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    "value",
    [
        "2030-01-02T12:00:00",
        "2030-01-02T12:00:00Z",
        "2030-01-02T14:00:00+02:00",
        NOON,
        datetime(2030, 1, 2, 14, tzinfo=EAST),
    ],
)
def test_texts_and_datetimes(value: object) -> None:
    assert parse_eta(value) == NOON
    assert parse_eta(value).tzinfo is UTC


def test_a_value_without_an_offset_is_local_to_the_zone_given() -> None:
    assert parse_eta("2030-01-02T14:00:00", EAST) == parse_eta(datetime(2030, 1, 2, 14), EAST) == NOON


@pytest.mark.parametrize("value", ["soon", "", 5, None, b"2030-01-02", "0001-01-01T00:00:00+02:00"])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        parse_eta(value)
