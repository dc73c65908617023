"""What is remembered of revoked tasks, how long, and how much of it."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.revoked import MOST_STAMPS, Revoked


def test_nothing_is_looked_for_before_anything_is_revoked() -> None:
    revoked = Revoked()
    assert not revoked.any
    revoked.add(["a"], 0.0)
    assert revoked.any
    assert "a" in revoked
    assert "b" not in revoked


@pytest.mark.row("TM12")
def test_ids_are_forgotten_when_they_are_old_or_too_many() -> None:
    revoked = Revoked(most=3, span=10.0)
    assert revoked.most == 3
    revoked.add(["a"], 0.0)
    revoked.add(["b", "c"], 5.0)
    revoked.add(["d"], 6.0)
    assert revoked.ids() == ["b", "c", "d"]
    revoked.purge(15.0)
    assert revoked.ids() == ["d"]
    revoked.purge(16.0)
    assert not revoked.any


def test_revoking_again_counts_from_then() -> None:
    revoked = Revoked(span=10.0)
    revoked.add(["a", "b"], 0.0)
    revoked.add(["a"], 5.0)
    revoked.purge(10.0)
    assert revoked.ids() == ["a"]


def test_a_span_of_nothing_is_for_ever() -> None:
    revoked = Revoked(span=0.0)
    revoked.add(["a"], 0.0)
    revoked.purge(1e12)
    assert revoked.ids() == ["a"]


@given(st.lists(st.tuples(st.integers(0, 20).map(str), st.floats(0, 100))), st.integers(1, 5))
def test_there_are_never_too_many(steps: list[tuple[str, float]], most: int) -> None:
    revoked = Revoked(most=most, span=50.0)
    now = 0.0
    for name, pause in steps:
        now += pause
        revoked.add([name], now)
        assert name in revoked
        assert len(revoked) <= most
        assert revoked.any


@pytest.mark.row("TM11")
def test_stamps() -> None:
    revoked = Revoked()
    assert not revoked.has_stamps
    revoked.add_stamps({"batch": ["b1", "b2"], "tenant": "t1"})
    assert revoked.any
    assert revoked.has_stamps
    assert revoked.stamp_of(["batch"], {"batch": "b2"}) == {"batch": "b2"}
    assert revoked.stamp_of(["batch"], {"batch": ["b0", "b1"]}) == {"batch": "b1"}
    assert revoked.stamp_of(["other", "tenant"], {"other": "b1", "tenant": "t1"}) == {"tenant": "t1"}
    # a header counts only where it is named as a stamp
    assert revoked.stamp_of([], {"batch": "b1"}) is None
    assert revoked.stamp_of(None, None) is None
    assert revoked.stamp_of(["batch"], {"batch": "b3"}) is None


class Counted(str):
    """An id that counts how often anybody asks for its hash: once or twice for each look at a table."""

    looks = 0

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()

    __eq__ = str.__eq__


@pytest.mark.parametrize("count", [1_000, 300_000])
def test_the_work_of_one_message_is_bounded(count: int) -> None:
    ids = [Counted(number) for number in range(count)]
    revoked = Revoked(most=1_000)
    Counted.looks = 0
    revoked.add(ids, 0.0)
    assert len(revoked) == 1_000
    assert ids[-1] in revoked
    assert Counted.looks < 8 * 1_000
    Counted.looks = 0
    revoked.purge(1e9)
    assert not revoked.any
    assert Counted.looks < 8 * 1_000
    # A plain dict finds its first key by a search through the places of all that were taken out before.
    assert isinstance(revoked._times, OrderedDict)


def test_stamps_of_any_number_and_kind_are_found_by_one_look() -> None:
    revoked = Revoked()
    values = [Counted(number) for number in range(5_000)]
    revoked.add_stamps({"batch": [*values, ["no", "hash"]]})
    Counted.looks = 0
    for number in range(100):
        assert revoked.stamp_of(["batch"], {"batch": Counted(number)}) == {"batch": str(number)}
    assert Counted.looks < 500
    assert revoked.stamp_of(["batch"], {"batch": [["no", "hash"]]}) == {"batch": ["no", "hash"]}
    assert revoked.stamp_of(["batch"], {"batch": [["other"]]}) is None


def test_stamps_are_bounded() -> None:
    revoked = Revoked()
    revoked.add_stamps({"batch": list(range(MOST_STAMPS - 1))})
    revoked.add_stamps({"last": "x"})
    assert revoked.stamp_of(["last"], {"last": "x"}) == {"last": "x"}
    with pytest.raises(ValueError, match="stamps"):
        revoked.add_stamps({"more": "x"})
