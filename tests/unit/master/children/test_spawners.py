"""Several spawners: who makes the next child, who reports it, and when a former one ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.children.test_pool import Spawner
from turbo.master.children.spawners import Spawners
from turbo.spawner.messages import Exited, Report


class Loop:
    """The readers, by descriptor."""

    def __init__(self) -> None:
        self.readers: dict[int, tuple[Any, ...]] = {}

    def add_reader(self, fd: int, *callback: Any) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> bool:
        return self.readers.pop(fd, None) is not None

    def read(self, fd: int) -> None:
        callback, *args = self.readers[fd]
        callback(*args)


class Ending(Spawner):
    """A spawner whose end can be seen."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.pid = self.pidfd = 2_000_000 + number
        self.closed = False

    def fileno(self) -> int:
        return 1_000_000 + self.number

    def adopted(self) -> list[int]:
        return []

    def release(self) -> None:
        self.gone = True

    def reap(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class World:
    """Two spawners, and what was heard of them."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.old, self.new = Ending(1), Ending(2)
        loop: Any = self.loop
        first: Any = self.old
        self.spawners = Spawners(loop, first)
        self.reports: list[Report] = []
        self.lost: list[tuple[int, list[int]]] = []
        self.spawners.on_report.add(self.reports.append)
        self.spawners.on_lost.add(lambda spawner, epochs: self.lost.append((spawner.pid, epochs)))
        self.spawners.listen(first)

    def request(self, epoch: int, of: Any = None) -> None:
        self.spawners.request(epoch, 1, range(7), of)

    def switch(self) -> None:
        new: Any = self.new
        self.spawners.listen(new)
        self.spawners.take_over(new)


@pytest.fixture
def world() -> World:
    return World()


def test_the_current_spawner_makes_children_unless_another_is_named(world: World) -> None:
    world.request(1)
    world.request(2, world.new)
    assert (world.old.asked, world.new.asked) == ([(1, 1)], [(2, 1)])
    assert not world.spawners.is_former(1) and not world.spawners.is_former(2)
    world.switch()
    world.request(3)
    assert world.new.asked == [(2, 1), (3, 1)]
    assert [world.spawners.is_former(epoch) for epoch in (1, 2, 3)] == [True, False, False]


def test_a_former_spawner_ends_with_its_last_child(world: World) -> None:
    world.request(1)
    world.request(2)
    world.switch()
    world.old.reports = [Exited(1, 101, 0)]
    world.loop.read(world.old.fileno())
    assert world.reports == [Exited(1, 101, 0)]
    world.spawners.forget(1)
    assert not world.old.gone
    world.spawners.forget(2)
    assert world.old.gone and world.old.fileno() not in world.loop.readers
    world.loop.read(world.old.pidfd)
    assert world.old.pidfd not in world.loop.readers
    assert world.lost == [], "it was told to end"


def test_a_former_spawner_without_children_ends_at_once(world: World) -> None:
    world.switch()
    assert world.old.gone and not world.new.gone


def test_a_dead_spawner_is_reported_with_its_children(world: World) -> None:
    world.request(1)
    world.request(2)
    world.switch()
    world.request(3)
    world.old.gone = True
    world.old.orphan_status = -9
    world.loop.read(world.old.fileno())
    assert world.lost == [(world.old.pid, [1, 2])]
    assert world.spawners.is_former(1), "its children go on"
    assert world.spawners.reap(1, 101) == -9
    assert world.spawners.reap(3, 103) is None, "its own spawner reports it"
    world.spawners.forget(1)
    world.spawners.forget(2)
    assert world.old.pidfd in world.loop.readers, "it is reaped"


def test_all_are_closed_at_the_end(world: World) -> None:
    world.request(1)
    world.switch()
    world.spawners.close()
    assert world.old.closed and world.new.closed
