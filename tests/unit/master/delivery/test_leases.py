"""Which deliveries are moved to a lease, and when; moving them is in tests/adversity/leases."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
from turbo.amqp.topology import Queue
from turbo.master.delivery.leases import Leases
from turbo.master.delivery.ledger import Delivery, Ledger


class Copies:
    """Remembers what is moved."""

    def __init__(self) -> None:
        self.moved: list[Delivery] = []
        self.moving: set[Delivery] = set()
        self.steps: list[str] = []
        self.cannot: set[str] = set()

    def forget(self) -> None:
        self.steps.append("forget")

    def drop_overdue(self, _now: float) -> None:
        self.steps.append("drop overdue")

    def is_moving(self, delivery: Delivery) -> bool:
        return delivery in self.moving

    async def ready(self, name: str) -> bool:
        return name not in self.cannot

    def plan(self, due: list[Delivery]) -> None:
        self.steps.append(f"plan {len(due)}")

    def carry_out(self, due: list[Delivery]) -> None:
        self.steps.append(f"carry out {len(due)}")
        self.moved += due


class World:
    """The leases of one worker at a broker whose consumer timeout is 1800 s; "short" has one of 100 s of its own."""

    def __init__(self, configured: float = 1800.0) -> None:
        self.now = 0.0
        self.ledger, self.copies = Ledger(), Copies()
        self.ledger.begin_epoch(1)
        self.link = SimpleNamespace(
            server_version=(4, 0, 5), refusals=SimpleNamespace(is_quorum=lambda _name: True), session=object()
        )
        queues = {
            "long": Queue("long"),
            "short": Queue("short", queue_arguments={"x-consumer-timeout": 100_000}),
        }
        fakes: Any = (SimpleNamespace(time=lambda: self.now), self.link, self.copies)
        loop, link, copies = fakes

        async def make_room() -> None:
            self.copies.steps.append("make room")

        self.leases = Leases(loop, self.ledger, queues, link, copies, make_room, timeouts=ConsumerTimeouts(configured))
        self.leases.begin_session()

    def receive(self, queue: str, lease: str = "") -> Delivery:
        delivery = Delivery(1, queue, self.ledger.newest + 1, b"", b"", b"")
        delivery.lease = lease
        self.ledger.add(delivery)
        return delivery

    def check(self, now: float) -> list[Delivery]:
        """What a check at this time moves."""
        self.now = now
        self.copies.moved.clear()
        asyncio.run(self.leases.renew())
        return list(self.copies.moved)


def test_a_delivery_is_moved_at_half_of_the_lease_of_its_queue() -> None:
    world = World()
    long, short = world.receive("long"), world.receive("short")
    assert world.check(0.0) == []
    assert world.check(49.0) == []
    assert world.check(50.0) == [short]
    world.ledger.remove(short)
    younger = world.receive("short")
    assert world.check(60.0) == []
    assert world.check(899.0) == [younger]
    assert world.check(900.0) == [long, younger]
    assert world.copies.steps[-4:] == ["drop overdue", "plan 2", "make room", "carry out 2"]


def test_what_is_acknowledged_or_moving_already_stays() -> None:
    world = World()
    acked, moving, other = (world.receive("short") for _ in range(3))
    acked.acked = True
    world.copies.moving.add(moving)
    world.check(0.0)
    assert world.check(60.0) == [other]


def test_a_copy_in_a_lease_queue_has_the_timeout_of_the_broker() -> None:
    world = World()
    copy = world.receive("short", lease="lease.short")
    world.check(0.0)
    assert world.check(899.0) == []
    assert world.check(900.0) == [copy]


def test_a_queue_that_this_worker_does_not_know_is_left_alone() -> None:
    world = World()
    world.receive("elsewhere")
    world.check(0.0)
    assert world.check(10_000.0) == []


def test_only_the_queues_whose_lease_queue_is_open() -> None:
    world = World()
    world.receive("short"), world.receive("long")
    world.copies.cannot.add("short")
    world.check(0.0)
    assert [delivery.queue for delivery in world.check(1000.0)] == ["long"]


def test_without_a_session_nothing_is_moved() -> None:
    world = World()
    short = world.receive("short")
    world.check(0.0)
    session, world.link.session = world.link.session, None  # type: ignore[assignment]
    assert world.check(60.0) == []
    world.link.session = session
    assert world.check(61.0) == [short]


def test_moves_are_forgotten_with_their_session_and_ages_begin_again() -> None:
    world = World()
    world.receive("short")
    world.check(0.0)
    world.copies.steps.clear()
    world.leases.end_session()
    assert world.copies.steps == ["forget"]
    world.ledger.void_epoch()
    world.ledger.begin_epoch(2)
    world.now = 1000.0
    world.leases.begin_session()
    assert world.copies.steps == ["forget", "forget"]
    delivery = Delivery(2, "short", 1, b"", b"", b"")
    world.ledger.add(delivery)
    assert world.check(1001.0) == []
    assert world.check(1051.0) == [delivery]


class Ended(Exception):
    """The time of a test is over."""


def run(world: World, monkeypatch: pytest.MonkeyPatch, until: float) -> dict[Delivery, float]:
    """Run the leases until this time; return when each delivery was moved. No time passes but in their waits."""
    moved: dict[Delivery, float] = {}

    async def sleep(seconds: float) -> None:
        for delivery in world.copies.moved:
            moved.setdefault(delivery, world.now)
        world.copies.moving.update(moved)
        assert seconds > 0, "it takes all of the processor"
        if world.now >= until:
            raise Ended
        world.now += seconds

    monkeypatch.setattr("turbo.master.delivery.leases.asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(Ended):
        asyncio.run(world.leases.run())
    return moved


def test_each_delivery_is_moved_between_half_and_three_quarters_of_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    short, long = world.receive("short"), world.receive("long")
    moved = run(world, monkeypatch, 2000.0)
    assert 50 <= moved[short] <= 75
    assert 900 <= moved[long] <= 1350


def test_ages_are_checked_several_times_per_lease_and_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    run(world, monkeypatch, 1000.0)
    checks = world.copies.steps.count("drop overdue")
    assert 40 <= checks <= 120, "the shortest lease is 100 s"


def test_leases_begin_soon_after_a_session_has(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.link.session = None  # type: ignore[assignment]
    run(world, monkeypatch, 30.0)
    assert world.copies.steps.count("drop overdue") >= 15


@pytest.mark.parametrize("configured", [0.0, -1.0])
def test_leases_can_be_turned_off(configured: float) -> None:
    asyncio.run(World(configured).leases.run())
