"""The commands about the children: their replies, and the numbers that they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.control.pool_commands import PoolCommands
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.resizing import MOST_CHILDREN


class Autoscaler:
    """Keeps the limits."""

    def update(self, most: int | None, least: int | None) -> tuple[int, int]:
        return 8 if most is None else most, 2 if least is None else least


class Resizing:
    """Changes the slots alone."""

    def __init__(self, size: PoolSize) -> None:
        self.size = size

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.size.add(())

    def shrink(self, count: int) -> None:
        for index in self.size.slots[-count:]:
            self.size.drop(index)


@pytest.fixture
def size() -> PoolSize:
    return PoolSize(2)


@pytest.fixture
def table(size: PoolSize) -> Any:
    resizing: Any = Resizing(size)
    return PoolCommands(resizing, None, None).table()


@pytest.mark.row("RC24", "PL21")
def test_growing_and_shrinking(table: Any, size: PoolSize) -> None:
    assert table["pool_grow"]() == {"ok": "pool will grow"}
    assert table["pool_grow"](n=3, more="ignored") == {"ok": "pool will grow"}
    assert (size.count, size.limit) == (6, 6)
    assert table["pool_shrink"](n=4) == {"ok": "pool will shrink"}
    assert table["pool_shrink"]() == {"ok": "pool will shrink"}
    assert (size.count, size.limit) == (1, 1)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_what_is_no_number_of_children_is_refused(table: Any, size: PoolSize, n: Any) -> None:
    for name in ("pool_grow", "pool_shrink"):
        with pytest.raises(ValueError, match="not a number of children"):
            table[name](n=n)
    assert (size.count, size.limit) == (2, 2)


def test_one_child_stays_and_there_is_an_upper_bound(table: Any, size: PoolSize) -> None:
    with pytest.raises(ValueError, match="Can't shrink pool"):
        table["pool_shrink"](n=2)
    with pytest.raises(ValueError, match="larger than"):
        table["pool_grow"](n=MOST_CHILDREN)
    assert (size.count, size.limit) == (2, 2)


@pytest.mark.row("RC25", "RC26")
def test_what_was_not_enabled_is_refused_as_by_celery(table: Any) -> None:
    for name, text in (("pool_restart", "Pool restarts not enabled"), ("autoscale", "Autoscale not enabled")):
        with pytest.raises(ValueError, match=text):
            table[name]()


@pytest.mark.row("RC26", "RC24")
def test_an_autoscaled_pool_is_changed_by_its_limits_alone(size: PoolSize) -> None:
    resizing, autoscaler = Resizing(size), Autoscaler()
    table = PoolCommands(resizing, autoscaler, None).table()  # type: ignore[arg-type]
    for name in ("pool_grow", "pool_shrink"):
        text = f"{name} is not supported with autoscale. Adjust autoscale range instead."
        assert table[name](n=1) == {"error": text}
    assert table["autoscale"](max=4) == {"ok": "autoscale now max=4 min=2"}
    assert table["autoscale"](min=0) == {"ok": "autoscale now max=8 min=0"}
    assert table["autoscale"](max=5, min=1) == {"ok": "autoscale now max=5 min=1"}
    for wrong in ({"max": "3"}, {"min": -1}, {"max": True}, {"max": MOST_CHILDREN + 1}):
        with pytest.raises(ValueError, match="not a number of children"):
            table["autoscale"](**wrong)
