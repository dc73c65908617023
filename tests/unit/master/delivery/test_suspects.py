"""The lane of messages that were delivered before, against a dispatcher and a broker that only remember."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from tests.unit.master.fakes import BODY, QUEUE, Loop, deliver_args, header_of
from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.recognition import is_redelivered, recognise
from turbo.master.delivery.suspects import Suspects
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.policy.delivery_lifecycle import State
from turbo.policy.poison import DELIVERIES
from turbo.policy.task_options import TaskOptions
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.own_headers import LEASE, REJECTED, ROUTE
from turbo.protocol.peek import AGAIN, peek
from turbo.protocol.properties import decode_header, encode_header

MOST = 3
DOCUMENTS = FailureDocuments({"late": TaskOptions("late", acks_late=True), "early": TaskOptions("early")}, stores=False)


class Child:
    serving = True
    free_listed = True


class World:
    """The dispatcher and the broker of one lane."""

    def __init__(self) -> None:
        self.loop: Any = Loop()
        self.possible = True
        self.asked: list[Delivery] = []
        self.ready: deque[Delivery] = deque()
        self.free: deque[Any] = deque([Child(), Child()])
        self.answer: Callable[[Delivery, bool], None] = lambda *_: None
        self.lane = Suspects(self.loop, self, self, MOST)

    def can_charge(self, _delivery: Delivery) -> bool:
        return self.possible

    async def charge(self, deliveries: Sequence[Delivery], done: Callable[[Delivery, bool], None]) -> None:
        self.asked += deliveries
        self.answer = done

    async def settle(self) -> None:
        pass

    def resubmit(self, deliveries: Iterable[Delivery]) -> None:
        self.ready.extendleft(reversed(list(deliveries)))

    def take_up(self, child: Any) -> None:
        child.free_listed = True
        self.free.append(child)

    def pump(self) -> None:
        while self.ready and self.ready[0].state is State.SUSPECT and self.lane.look_at_first(self.ready, self.free):
            pass

    def submit(self, *deaths: int) -> list[Delivery]:
        made = [suspect(number, count) for number, count in enumerate(deaths, 1)]
        self.ready.extend(made)
        self.pump()
        return made


def message(task: str = "late", *, redelivered: bool = True, **headers: object) -> Delivery:
    """A delivery with more headers, which stand first."""
    properties, _ = decode_header(header_of("id", task))
    properties.headers = headers | (properties.headers or {})
    header = encode_header(properties, len(BODY))
    return Delivery(1, QUEUE, 1, deliver_args(1, redelivered), header, BODY)


def suspect(tag: int, deaths: int) -> Delivery:
    """A late-acked message that was delivered before."""
    delivery = message(**({DELIVERIES: deaths} if deaths else {}))
    delivery.tag = tag
    recognise(delivery, DOCUMENTS)
    return delivery


@pytest.fixture
def world() -> World:
    return World()


def states(*deliveries: Delivery) -> list[State]:
    return [delivery.state for delivery in deliveries]


def test_what_finds_a_free_child_is_charged_together_and_handed_out_together(world: World) -> None:
    one, two, three = world.submit(0, 0, 0)
    assert list(world.ready) == [three], "it waits for a free child, uncharged"
    world.loop.turn()
    assert world.asked == [one, two]
    world.answer(one, True)
    world.loop.turn()
    assert list(world.ready) == [three], "one was handed out while the other was being charged"
    world.answer(two, True)
    world.loop.turn()
    assert list(world.ready)[:2] == [one, two]
    assert states(one, two, three) == [State.READY, State.READY, State.SUSPECT]


def test_nothing_is_charged_while_no_child_is_free(world: World) -> None:
    world.free.clear()
    (one,) = world.submit(0)
    world.loop.turn()
    assert one.state is State.SUSPECT and not world.asked and list(world.ready) == [one]


def test_a_child_that_no_longer_serves_is_passed_over(world: World) -> None:
    leaving, serving = world.free
    leaving.serving = False
    (one,) = world.submit(0)
    assert not leaving.free_listed and not serving.free_listed
    assert not world.free
    world.loop.turn()
    world.answer(one, True)
    world.loop.turn()
    assert list(world.free) == [serving], "it was kept for this one"


def test_a_round_that_was_given_up_before_it_began_charges_nothing(world: World) -> None:
    (one,) = world.submit(0)
    assert world.lane.withdraw() == [one]
    world.loop.turn()
    assert world.asked == []
    assert not world.loop.timers


def test_where_nothing_can_be_written_down_it_runs_uncounted(world: World) -> None:
    world.possible = False
    (one,) = world.submit(0)
    assert one.state is State.READY and list(world.ready) == [one] and not world.asked


def test_a_message_whose_headers_cannot_be_read_is_charged_as_one_that_has_ended_no_worker(world: World) -> None:
    unreadable, other = Delivery(1, QUEUE, 1, deliver_args(1, True), b"\0", BODY), suspect(2, 0)
    unreadable.move(State.SUSPECT)
    world.ready.extend([unreadable, other])
    world.pump()
    world.loop.turn()
    assert world.asked == [unreadable, other], "neither has to run alone"


def test_what_is_given_up_is_not_charged_again(world: World) -> None:
    (one,) = world.submit(MOST)
    assert one.state is State.READY and not world.asked


def test_a_broker_that_does_not_answer_holds_nothing_up(world: World) -> None:
    (one,) = world.submit(0)
    world.loop.turn()
    world.loop.fire(world.lane)
    assert one.state is State.READY and list(world.ready) == [one] and len(world.free) == 2
    (two,) = world.submit(0)
    assert two.state is State.SUSPECT
    world.ready.popleft()
    world.pump()
    assert two.state is State.READY, "the next one waits as well"


def test_a_late_answer_changes_nothing(world: World) -> None:
    (one,) = world.submit(0)
    world.loop.turn()
    world.loop.fire(world.lane)
    world.answer(one, True)
    world.loop.turn()
    assert list(world.ready) == [one]


def test_the_last_chance_waits_for_the_others_and_others_wait_for_it(world: World) -> None:
    one, two = world.submit(0, MOST - 1)
    world.loop.turn()
    world.answer(one, True)
    world.loop.turn()
    assert world.asked == [one] and two.state is State.SUSPECT
    world.ready.remove(one)
    for state in (State.DISPATCHED, State.STARTED, State.FINISHING, State.SETTLED):
        one.move(state)
    (three,) = world.submit(0)
    world.loop.fire(world.lane)
    world.loop.turn()
    assert world.asked == [one, two]
    world.answer(two, True)
    world.loop.turn()
    assert three.state is State.SUSPECT


def test_all_that_waits_is_given_up_at_once(world: World) -> None:
    one, two, three = world.submit(0, MOST - 1, 0)
    world.loop.turn()
    assert world.lane.withdraw() == [one, two, three]
    world.answer(one, True)
    world.loop.turn()
    assert states(one, two, three) == [State.SUSPECT] * 3 and not world.ready


@pytest.mark.parametrize(
    ("delivery", "expected"),
    [
        (message(), State.SUSPECT),
        (message(redelivered=False, **{LEASE: "token"}), State.SUSPECT),
        (message("early"), State.READY),
        (message("unknown"), State.READY),
        (message(**{REJECTED: True}), State.READY),
    ],
)
def test_late_acked_messages_that_come_again_are_suspects(delivery: Delivery, expected: State) -> None:
    recognise(delivery, DOCUMENTS)
    assert delivery.state is delivery.waits_as is expected
    recognise(delivery, DOCUMENTS)
    assert delivery.state is expected


def test_a_copy_that_comes_back_is_what_was_sent() -> None:
    delivery = message(redelivered=False, **{LEASE: "token", ROUTE: ["exchange", "key"]})
    assert peek(delivery.header) == AGAIN and not is_redelivered(delivery.deliver)
    recognise(delivery, DOCUMENTS)
    seen = parse_deliver(delivery.deliver)
    assert (seen.exchange, seen.routing_key, seen.redelivered) == ("exchange", "key", True)
    assert is_redelivered(delivery.deliver)
    assert ROUTE not in (decode_header(delivery.header)[0].headers or {})
    assert peek(delivery.header) == AGAIN, "it is not known any more that it was delivered before"


def test_a_first_delivery_is_not_looked_at() -> None:
    assert peek(header_of("id", "late")) == 0
