"""When children may start a task without waking the master."""

from __future__ import annotations

import pytest

from turbo.policy.start_signals import LOUD_NS, QUIET_NS, quiet


@pytest.mark.parametrize(
    ("estimate", "now", "wanted"),
    [
        (0, False, False),
        (0, True, False),
        (1, False, True),
        (QUIET_NS, False, True),
        (QUIET_NS + 1, False, False),
        (QUIET_NS + 1, True, True),
        (LOUD_NS, True, True),
        (LOUD_NS + 1, True, False),
    ],
)
def test_starts_are_quiet_while_tasks_are_short(estimate: int, now: bool, wanted: bool) -> None:
    assert quiet(estimate, now=now) is wanted
