"""Times that a clock skips or shows twice."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from turbo.policy.wall_time import after_gap, aware, exists, in_zone, is_naive

BERLIN = ZoneInfo("Europe/Berlin")


def test_a_skipped_time_moves_on_by_the_gap() -> None:
    skipped = datetime(2025, 3, 30, 2, 30, tzinfo=BERLIN)
    assert not exists(skipped)
    assert after_gap(skipped) == datetime(2025, 3, 30, 3, 30, tzinfo=BERLIN)
    assert in_zone(datetime(2025, 3, 30, 2, 30), BERLIN) == after_gap(skipped)


def test_other_times_stay() -> None:
    for when in (datetime(2025, 3, 30, 4, tzinfo=BERLIN), datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=1)):
        assert exists(when)
        assert after_gap(when) == when


def test_of_two_times_a_naive_one_is_the_first() -> None:
    found = in_zone(datetime(2025, 10, 26, 2, 30, fold=1), BERLIN)
    assert found.astimezone(UTC) == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)


def test_a_naive_time_is_utc() -> None:
    naive = datetime(2025, 1, 1, 12)
    assert is_naive(naive)
    assert aware(naive, BERLIN) == datetime(2025, 1, 1, 13, tzinfo=BERLIN)
    assert aware(datetime(2025, 1, 1, tzinfo=UTC), BERLIN).tzinfo is UTC
