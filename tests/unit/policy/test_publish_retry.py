from __future__ import annotations

from itertools import islice

import pytest

from turbo.policy.publish_retry import ONCE, PublishRetry


@pytest.mark.row("CA10", "CF11")
def test_the_default_policy() -> None:
    assert list(PublishRetry().waits()) == [0, 0.2, 0.4]
    assert list(ONCE.waits()) == []


def test_from_the_setting() -> None:
    made = PublishRetry.from_setting({"max_retries": 5, "interval_start": 1, "interval_max": 2, "errback": print})
    assert made == PublishRetry(5, 1, 0.2, 2)
    assert list(made.waits()) == pytest.approx([1, 1.2, 1.4, 1.6, 1.8])
    assert PublishRetry.from_setting({"interval_step": None}) == PublishRetry()


def test_zero_is_a_number_of_times_and_of_seconds() -> None:
    made = PublishRetry.from_setting({"max_retries": 2, "interval_start": 0.5, "interval_step": 0, "interval_max": 0.7})
    assert list(made.waits()) == [0.5, 0.5]
    assert PublishRetry.from_setting({"max_retries": 0}) == ONCE


def test_for_ever() -> None:
    made = PublishRetry.from_setting({"max_retries": None})
    assert list(islice(made.waits(), 8))[-1] == 1


@pytest.mark.parametrize("policy", [{"max_retries": "3"}, {"interval_max": -1}, {"interval_step": True}])
def test_nonsense_is_named(policy: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(policy))):
        PublishRetry.from_setting(policy)
