"""The slots of the pool."""

from __future__ import annotations

from turbo.master.children.pool_size import PoolSize


def test_a_new_slot_has_the_lowest_index_that_nobody_uses() -> None:
    size = PoolSize(3)
    size.drop(1)
    size.drop(2)
    assert size.add({1, 7}) == 2
    assert size.add({1}) == 4
    assert size.add(()) == 1
    assert (size.slots, size.count, 4 in size, 5 in size) == ([1, 2, 3, 4], 4, True, False)


def test_a_pool_may_begin_with_fewer_children_than_it_may_have() -> None:
    size = PoolSize(8, 0)
    assert (size.slots, size.limit) == ([], 8)
    assert size.add(()) == 1
