"""Deliveries that wait for their task's rate limit: in order, at the rate, and without a trace once they are gone."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.master.fakes import BODY, Loop, deliver_args, header_of
from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.rate_limits import RateLimits
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.policy.delivery_lifecycle import State
from turbo.policy.task_options import TaskOptions
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header

TASKS = {name: TaskOptions(name, rate_limit=limit) for name, limit in {"slow": "2/s", "slower": 0.5, "free": 0}.items()}


class Place:
    """The limits between an intake and a dispatcher that only record."""

    def __init__(self, *, disabled: bool = False) -> None:
        self.loop: Any = Loop()
        #: Names with the times at which they were handed to the dispatcher.
        self.started: list[tuple[str, float]] = []
        self.order: list[int] = []
        dispatcher: Any = self
        self.limits = RateLimits(
            self.loop, dispatcher, FailureDocuments(TASKS, stores=True), TASKS, disabled=disabled, clock=self.loop.time
        )
        self.limits.on_ready.add(self.submit)
        self._tag = 0

    def submit(self, delivery: Delivery) -> None:
        """A dispatcher's, and an intake's that finds nothing against it."""
        assert delivery.state is State.READY
        delivery.move(State.DISPATCHED)
        name = delivery.header[delivery.header.index(b"taskS") + 9 :]
        self.started.append((name[: name.index(b"\x02id")].decode(), self.loop.now))
        self.order.append(delivery.tag)

    def take_in(self, task: str, expires: float | None = None) -> Delivery:
        """A new delivery."""
        self._tag += 1
        header = header_of(f"{task}-{self._tag}", task)
        if expires is not None:
            until = datetime.now(UTC) + timedelta(seconds=expires)
            headers, _body, properties = build(f"{task}-{self._tag}", task, expires=until)
            properties.headers = headers
            properties.content_type, properties.content_encoding = "application/json", "utf-8"
            header = encode_header(properties, len(BODY))
        delivery = Delivery(1, "q", self._tag, deliver_args(self._tag, False), header, BODY)
        self.limits.submit(delivery)
        return delivery

    def pass_time(self, seconds: float) -> None:
        """Let the clock run; timers fire when they are due, give or take a millisecond."""
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.loop.now = min(end, self.loop.now + 0.01)
            self.loop.fire(self.limits)


@pytest.mark.row("TM15", "TM16")
def test_starts_keep_their_distance_and_their_order() -> None:
    place = Place()
    for _ in range(4):
        place.take_in("slow")
        place.take_in("free")
    assert [name for name, _ in place.started] == ["slow", "free", "free", "free", "free"]
    assert len(place.limits) == 3
    place.pass_time(2.0)
    times = [at for name, at in place.started if name == "slow"]
    assert len(times) == 4
    assert all(0.5 <= after - before < 0.53 for before, after in itertools.pairwise(times))
    assert [tag for tag in place.order if tag % 2] == [1, 3, 5, 7]
    assert len(place.limits) == 0
    assert place.loop.timers == []


def test_idle_time_allows_no_burst() -> None:
    place = Place()
    place.pass_time(60.0)
    for _ in range(3):
        place.take_in("slow")
    assert len(place.started) == 1


@given(st.lists(st.tuples(st.sampled_from(["slow", "slower"]), st.floats(0, 2)), max_size=20))
def test_each_task_has_a_bucket_of_its_own(arrivals: list[tuple[str, float]]) -> None:
    place = Place()
    for name, pause in arrivals:
        place.take_in(name)
        place.pass_time(pause)
    place.pass_time(40.0)
    assert len(place.started) == len(arrivals)
    for name, distance in (("slow", 0.5), ("slower", 2.0)):
        times = [at for each, at in place.started if each == name]
        assert all(after - before >= distance * 0.999 for before, after in itertools.pairwise(times))


@pytest.mark.row("RC19")
def test_a_change_reaches_those_that_wait() -> None:
    place = Place()
    for _ in range(5):
        place.take_in("slower")
    place.pass_time(1.0)
    assert len(place.started) == 1
    place.limits.change("slower", 10.0)
    place.pass_time(0.2)
    assert len(place.started) in (2, 3)
    place.limits.change("slower", 0)
    place.take_in("slower")
    place.pass_time(0.05)
    assert place.order == [1, 2, 3, 4, 5, 6]
    place.take_in("slower")
    assert len(place.started) == 7
    assert place.limits.any, "the other task is still limited"
    place.limits.change("slow", 0)
    assert not place.limits.any


@pytest.mark.row("RC19")
def test_a_task_without_a_limit_gets_one() -> None:
    place = Place()
    place.take_in("free")
    place.limits.change("free", 1.0)
    for _ in range(3):
        place.take_in("free")
    assert len(place.started) == 2
    # lifted and set again while some still wait
    place.limits.change("free", 0.0)
    place.limits.change("free", 1.0)
    place.pass_time(1.5)
    assert len(place.started) == 4
    assert len(place.limits) == 0


def test_what_expires_while_it_waits_takes_no_token() -> None:
    place = Place()
    place.take_in("slow")
    for _ in range(3):
        place.take_in("slow", expires=-1.0)
    place.take_in("slow")
    place.pass_time(0.1)
    assert len(place.started) == 4, "the intake ends them as expired"
    place.pass_time(0.45)
    assert len(place.started) == 5


def test_what_is_taken_out_is_gone() -> None:
    place = Place()
    deliveries = [place.take_in("slow") for _ in range(4)]
    assert place.limits.take_out({deliveries[0], deliveries[2]}) == [deliveries[2]]
    assert len(place.limits) == 2
    assert place.limits.withdraw() == [deliveries[1], deliveries[3]]
    assert len(place.limits) == 0
    assert place.loop.timers == []
    place.pass_time(0.3)
    # the bucket outlives what waited for it
    again = place.take_in("slow")
    assert again.state is State.HELD


def test_a_suspect_is_one_again_afterwards() -> None:
    place = Place()
    place.take_in("slow")
    suspect = Delivery(1, "q", 9, deliver_args(9, True), header_of("s", "slow"), BODY)
    suspect.waits_as = State.SUSPECT
    suspect.move(State.SUSPECT)
    place.limits.submit(suspect)
    seen: list[State] = []
    place.limits.on_ready._functions[:] = [lambda delivery: seen.append(delivery.state)]
    place.pass_time(0.6)
    assert seen == [State.SUSPECT]


@pytest.mark.row("TM18")
def test_all_limits_can_be_ignored() -> None:
    place = Place(disabled=True)
    assert not place.limits.any
    place.limits.change("slow", 1.0)
    for _ in range(3):
        place.take_in("slow")
    assert len(place.started) == 3
