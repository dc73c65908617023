"""Deliveries that are collected for batches: by count, by time, and without a trace once they are gone."""

from __future__ import annotations

from typing import Any

from tests.unit.master.fakes import BODY, Loop, deliver_args, header_of
from turbo.master.delivery import units
from turbo.master.delivery.batches import Batches
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.policy import poison
from turbo.policy.batching import Batch
from turbo.policy.delivery_lifecycle import State
from turbo.policy.task_options import TaskOptions
from turbo.protocol.building import build
from turbo.protocol.properties import encode_header

TASKS = {
    "three": TaskOptions("three", batch=Batch(3, 10.0)),
    "many": TaskOptions("many", batch=Batch(100, 2.0)),
    "single": TaskOptions("single"),
}


class Place:
    """Batches before a dispatcher that only records."""

    def __init__(self) -> None:
        self.loop: Any = Loop()
        self.ledger = Ledger()
        self.ledger.begin_epoch(1)
        #: The tags of each batch that was handed out.
        self.handed: list[list[int]] = []
        self.balanced = 0
        dispatcher: Any = self
        self.batches = Batches(self.loop, self.ledger, dispatcher, TASKS)
        self._tag = 0

    def submit(self, first: Delivery) -> None:
        assert first.state is not State.HELD
        self.handed.append([delivery.tag for delivery in (first, *first.followers)])

    def balance(self) -> None:
        self.balanced += 1

    def take_in(self, task: str, state: State = State.READY, deaths: int = 0) -> Delivery:
        self._tag += 1
        header = header_of(f"{task}-{self._tag}", task)
        if deaths:
            headers, _body, properties = build(f"{task}-{self._tag}", task)
            properties.headers = {**headers, poison.DELIVERIES: deaths}
            header = encode_header(properties, len(BODY))
        delivery = Delivery(1, "q", self._tag, deliver_args(self._tag, False), header, BODY)
        self.ledger.add(delivery)
        if state is not State.READY:
            delivery.move(state)
        self.batches.submit(delivery)
        return delivery


def test_each_task_is_collected_up_to_its_size() -> None:
    place = Place()
    for _ in range(4):
        place.take_in("three")
        place.take_in("many")
    assert place.handed == [[1, 3, 5]]
    assert place.batches.collected == 5
    place.take_in("single")
    assert place.handed[1:] == [[9]]


def test_a_batch_that_is_not_full_is_handed_out_when_its_time_is_over() -> None:
    place = Place()
    place.take_in("many")
    place.take_in("many")
    assert len(place.loop.timers) == 1
    place.loop.fire(place.batches)
    assert place.handed == [[1, 2]]
    assert place.balanced == 1
    assert not place.loop.timers
    place.take_in("many")
    assert len(place.loop.timers) == 1


def test_a_full_batch_leaves_no_timer() -> None:
    place = Place()
    for _ in range(3):
        place.take_in("three")
    assert not place.loop.timers


def test_what_may_have_killed_before_runs_alone() -> None:
    place = Place()
    place.take_in("three", State.SUSPECT)
    place.take_in("three", deaths=1)
    assert place.handed == [[1], [2]]


def test_single_deliveries_are_taken_out() -> None:
    place = Place()
    first, second = place.take_in("three"), place.take_in("three")
    assert place.batches.take_out({first}) == [first]
    assert second.state is State.HELD
    place.take_in("three")
    assert not place.handed
    place.take_in("three")
    assert place.handed == [[2, 3, 4]]


def test_an_interval_ends_with_its_last_delivery() -> None:
    place = Place()
    only = place.take_in("three")
    assert place.batches.take_out({only}) == [only]
    assert not place.loop.timers


def test_all_are_given_up_or_handed_out_at_once() -> None:
    place = Place()
    given_up = [place.take_in("three"), place.take_in("many")]
    assert place.batches.withdraw() == given_up
    assert not place.loop.timers and not place.batches.collected
    place.take_in("three")
    place.take_in("many")
    place.batches.flush()
    assert place.handed == [[3], [4]]


def test_the_window_has_room_for_a_growing_batch_and_for_those_that_run() -> None:
    place = Place()
    assert place.batches.room == 0
    place.take_in("many")
    assert place.batches.room == 100
    members = [place.take_in("three") for _ in range(3)]
    # One of the three counts as the work that it is.
    assert place.batches.room == 102
    members[1].acked = True
    assert place.batches.room == 101
    for delivery in units.flat([members[0]]):
        assert not delivery.follows
    assert place.batches.room == 100


def test_without_such_tasks_deliveries_need_not_pass() -> None:
    nobody: Any = None
    assert not Batches(nobody, Ledger(), nobody, {"single": TASKS["single"]}).any
    assert Place().batches.any
