"""docs/periodic.md: its examples, run one after the other, and what they are said to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.docs.pages import examples
from turbo.beat import Scheduler


@pytest.fixture
def names() -> dict[str, Any]:
    """What the examples define."""
    found: dict[str, Any] = {"__name__": "shop"}
    for number, example in enumerate(examples("periodic.md")):
        exec(compile(example, f"periodic.md, example {number + 1}", "exec"), found)
    return found


def test_the_entries_are_what_the_page_says(names: dict[str, Any]) -> None:
    schedule = Scheduler(names["app"]).schedule
    assert schedule.keys() == {"stock", "invoices", "socks, each minute", "shop.count_stock('hats')", "relative"}
    assert schedule["socks, each minute"].options == {"expires": 30}
    assert schedule["relative"].schedule.relative
    assert names["from_text"] == names["first_of_quarter"]


def test_a_crontab_is_in_the_apps_zone(names: dict[str, Any]) -> None:
    invoices = Scheduler(names["app"]).schedule["invoices"].schedule
    invoices.nowfun = lambda: datetime(2025, 7, 4, 12, tzinfo=UTC)
    friday = datetime(2025, 7, 4, 5, 0, tzinfo=UTC)
    assert (friday + invoices.remaining_estimate(friday) + (invoices.now() - friday)) == datetime(
        2025, 7, 7, 5, 0, tzinfo=UTC
    )
