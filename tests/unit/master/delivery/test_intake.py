"""What becomes of a delivery on its receipt, with neighbours that note their calls; whole sequences: test_ledger."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.master.fakes import BODY, QUEUE, Shelf, deliver_args, header_of, no_events
from turbo.master.delivery.intake import Intake
from turbo.master.delivery.ledger import Delivery, Ledger
from turbo.master.delivery.paused_queues import PausedQueues
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.observers import Observers
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending
from turbo.policy.task_options import TaskOptions
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.own_headers import LEASE, ROUTE
from turbo.protocol.properties import decode_header, encode_header


class World:
    """An intake, the deliveries that it handed on by where they went, and the options of its neighbours."""

    def __init__(self, *, verbose: bool = False, parking: bool = False) -> None:
        self.to: dict[str, list[Delivery]] = {
            name: [] for name in ("dispatcher", "limits", "hook", "guard", "renewed", "revoked", "parked")
        }
        self.in_rings: list[Delivery] = []
        self.pending: list[Any] = []
        self.reasons: list[str] = []
        self.balanced = self.pumped = 0
        self.near_limit: set[int] = set()
        self.refused: set[str] = set()
        self.taken: list[tuple[int, int]] = []
        self.watched: list[Delivery] = []
        self.ledger, self.shelf = Ledger(), Shelf()
        self.parks = True
        documents = FailureDocuments({"late": TaskOptions("late", acks_late=True)}, stores=False)
        none = {"withdraw": lambda **_: [], "take_out": lambda _wanted: []}
        self.hooks = SimpleNamespace(reports_received=False, received=self._received, revoked=self._revoked)
        self.guard = SimpleNamespace(watching=False, hold=self._held_by_guard, watch=self.watched.extend, **none)
        self.limits = SimpleNamespace(any=False, submit=self.to["limits"].append, on_ready=Observers(), **none)
        self.revoked = SimpleNamespace(any=False)
        self.outcomes = SimpleNamespace(endings=dict.fromkeys(Ending, 0))
        copies = SimpleNamespace(
            lost_queue=lambda _queue: None, take=lambda epoch, batch: self.taken.append((epoch, len(batch)))
        )
        parts: Any = {
            "dispatcher": SimpleNamespace(
                submit=self.to["dispatcher"].append, balance=self._balance, pump=self._pump,
                withdraw=self._withdraw, resubmit=self.in_rings.extend,
            ),
            "settlement": SimpleNamespace(events=no_events(), finish=lambda *_: None),
            "failure_documents": documents,
            "hooks": self.hooks,
            "redelivery_guard": self.guard,
            "outcomes": self.outcomes,
            "leases": SimpleNamespace(begin_session=lambda: None, end_session=lambda: None, copies=copies),
            "returns": SimpleNamespace(
                counted=lambda queue: queue == "counted",
                is_near_limit=lambda delivery: delivery.tag in self.near_limit,
                renew=self.to["renewed"].append,
                **none,
            ),
            "shelf": self.shelf,
            "rate_limits": self.limits,
            "batches": SimpleNamespace(any=False, **none),
            "revoked_tasks": SimpleNamespace(revoked=self.revoked, refuses=self._refuses),
            "paused_queues": PausedQueues(),
            "parking": SimpleNamespace(park=self._park, **none) if parking else None,
        }  # fmt: skip
        self.intake = Intake(self.ledger, verbose=verbose, **parts)
        self.intake.on_session_up(1)

    def _balance(self) -> None:
        self.balanced += 1

    def _pump(self) -> None:
        self.pumped += 1

    def _withdraw(self) -> list[Delivery]:
        taken = [*self.in_rings, *self.to["dispatcher"]]
        self.in_rings.clear()
        self.to["dispatcher"].clear()
        return taken

    def _received(self, delivery: Delivery, then: Any) -> None:
        self.to["hook"].append(delivery)
        self.pending.append(then)

    def _revoked(self, delivery: Delivery, reason: str, _then: Any) -> None:
        self.to["revoked"].append(delivery)
        self.reasons.append(reason)

    def _held_by_guard(self, delivery: Delivery, message: Any) -> bool:
        self.to["guard"].append(delivery)
        return message.id == "copy"

    def _refuses(self, delivery: Delivery) -> bool:
        return any(identifier.encode() in delivery.header for identifier in self.refused)

    def _park(self, delivery: Delivery) -> bool:
        if self.parks:
            self.to["parked"].append(delivery)
        return self.parks

    # -- the test ----------------------------------------------------------------------------------------

    def receive(self, header: bytes, *, redelivered: bool = False, queue: str = QUEUE) -> Delivery:
        tag = self.ledger.newest + 1
        self.intake.on_deliveries(1, queue, [(tag, deliver_args(tag, redelivered), header, BODY)])
        return next(delivery for delivery in self.ledger if delivery.tag == tag)

    def went(self) -> list[str]:
        """Where deliveries went, other than to the shelf."""
        return [name for name, deliveries in self.to.items() for _ in deliveries]


def header(identifier: str = "id", task: str = "early", **headers: object) -> bytes:
    """A task message's header with other values, or with more headers, which stand first."""
    properties, size = decode_header(header_of(identifier, task))
    properties.headers = headers | {k: v for k, v in (properties.headers or {}).items() if k not in headers}
    return encode_header(properties, size)


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def world() -> World:
    return World()


def test_a_plain_message_goes_to_the_dispatcher_undecoded(world: World) -> None:
    delivery = world.receive(header())
    assert world.went() == ["dispatcher"]
    assert (delivery.message, delivery.state, world.balanced) == (None, State.READY, 1)
    assert (delivery.epoch, delivery.queue, delivery.body) == (1, QUEUE, BODY)


def test_a_batch_is_balanced_once_and_a_closed_intake_takes_none(world: World) -> None:
    batch = [(tag, deliver_args(tag, False), header(), BODY) for tag in (1, 2, 3)]
    world.intake.on_deliveries(1, QUEUE, batch)
    assert (len(world.to["dispatcher"]), world.balanced, len(world.ledger)) == (3, 1, 3)
    world.intake.on_deliveries(1, QUEUE, [])
    world.intake.closed = True
    world.intake.on_deliveries(1, QUEUE, [(4, deliver_args(4, False), header(), BODY)])
    assert len(world.ledger) == 3


def test_limited_tasks_wait_for_their_token_and_are_looked_at_again(world: World) -> None:
    world.limits.any = True
    first, second = world.receive(header("a")), world.receive(header("revoked"))
    assert world.went() == ["limits", "limits"]
    world.revoked.any = True
    world.refused.add("revoked")
    balanced = world.balanced
    for delivery in (first, second):
        world.limits.on_ready(delivery)
    assert world.to["dispatcher"] == [first], "the other was revoked while it waited"
    assert world.balanced == balanced + 1


@pytest.mark.parametrize(("eta", "expires", "where"), [
    (None, 60, "limits"), (-1, None, "limits"), (-1, 60, "limits"), (60, None, "shelf"), (60, 90, "shelf"),
    (None, -1, "revoked"), (60, -1, "revoked"),
])  # fmt: skip
def test_times_are_looked_at(world: World, eta: float | None, expires: float | None, where: str) -> None:
    times = {name: at(value) for name, value in (("eta", eta), ("expires", expires)) if value is not None}
    delivery = world.receive(header(**times))
    assert world.went() == ([where] if where != "shelf" else [])
    assert world.shelf.held == ([delivery] if where == "shelf" else [])
    assert delivery.state is (State.HELD if where == "shelf" else State.READY)
    assert world.outcomes.endings[Ending.REVOKED] == (where == "revoked")
    assert world.reasons == ["expired"] * (where == "revoked")
    if where == "shelf":
        assert delivery.due == datetime.fromisoformat(times["eta"]).timestamp()


def test_times_without_utc_are_left_to_the_child(world: World) -> None:
    """They are in the app's zone. Only messages of protocol 1 say so, in their body."""
    properties, _ = decode_header(header())
    properties.headers = None
    body = b'{"task": "early", "id": "id", "args": [], "kwargs": {}, "eta": "2100-01-01T00:00:00", "utc": false}'
    batch = [(1, deliver_args(1, False), encode_header(properties, len(body)), body)]
    world.intake.on_deliveries(1, QUEUE, batch)
    (delivery,) = world.ledger
    assert (world.shelf.held, delivery.state, len(world.went())) == ([], State.READY, 1)


def test_a_held_message_that_is_due_is_looked_at_again(world: World) -> None:
    first, second = world.receive(header("a", eta=at(60))), world.receive(header("revoked", eta=at(60)))
    world.revoked.any = True
    world.refused.add("revoked")
    for delivery in world.shelf.withdraw():
        assert delivery.message is not None
        delivery.message.eta = datetime.now(UTC)
        world.shelf.on_due(delivery)
    assert world.to["limits"] == [first]
    assert (first.state, second.state) == (State.READY, State.READY)


@pytest.mark.parametrize("parks", [True, False])
def test_a_message_far_from_due_is_parked_where_that_is_possible(parks: bool) -> None:
    world = World(parking=True)
    world.parks = parks
    delivery = world.receive(header(eta=at(10_000)))
    assert world.to["parked"] == [delivery] * parks
    assert world.shelf.held == [delivery] * (not parks)
    assert delivery.state is State.HELD


def test_a_revoked_message_does_not_run(world: World) -> None:
    world.revoked.any = True
    world.refused.add("revoked")
    world.receive(header("revoked"))
    assert world.went() == []
    world.receive(header("other"))
    assert world.went() == ["dispatcher"]


@pytest.mark.parametrize(("task", "state"), [("late", State.SUSPECT), ("early", State.READY)])
def test_a_redelivered_message_of_a_late_task_is_a_suspect(world: World, task: str, state: State) -> None:
    assert world.receive(header(task=task), redelivered=True).state is state
    assert world.receive(header(task=task)).state is State.READY
    assert world.went() == ["dispatcher", "dispatcher"]


@pytest.mark.parametrize("seen", [True, False])
def test_a_message_from_a_lease_is_one_that_was_delivered_before(world: World, seen: bool) -> None:
    world.guard.watching = seen
    delivery = world.receive(header(task="late", **{LEASE: "token"}))
    assert delivery.state is State.SUSPECT
    assert parse_deliver(delivery.deliver).redelivered
    assert world.to["guard"] == [delivery] * seen


def test_a_message_that_waited_in_the_brokers_queues_for_its_eta_has_its_route_again(world: World) -> None:
    delivery = world.receive(header(**{ROUTE: ["exchange", "key"], "eta": at(-1)}))
    found = parse_deliver(delivery.deliver)
    assert (found.exchange, found.routing_key, found.redelivered) == ("exchange", "key", False)
    assert delivery.state is State.READY
    assert ROUTE.encode() not in delivery.header
    assert world.went() == ["limits"]


def test_copies_of_what_runs_here_are_held(world: World) -> None:
    world.guard.watching = True
    world.receive(header("copy"))
    assert world.went() == ["dispatcher"], "a first delivery is no copy"
    copy, other = world.receive(header("copy"), redelivered=True), world.receive(header("other"), redelivered=True)
    assert world.to["guard"] == [copy, other]
    assert world.to["dispatcher"][1:] == [other]


def test_a_message_near_its_delivery_limit_is_renewed(world: World) -> None:
    world.near_limit.update({1, 2})
    first = world.receive(header(task="late"), queue="counted")
    assert (world.went(), first.state) == (["renewed"], State.SUSPECT)
    world.receive(header(), queue="uncounted")
    assert world.went() == ["dispatcher", "renewed"]


def test_the_apps_receiver_is_called_before_anything_else_happens(world: World) -> None:
    world.hooks.reports_received = True
    first, second = world.receive(header("a")), world.receive(header("b"))
    assert (world.to["hook"], world.to["limits"]) == ([first, second], [])
    balanced = world.balanced
    world.pending[0]()
    assert (world.to["limits"], world.balanced) == ([first], balanced + 1)
    world.intake.closed = True
    world.pending[1]()
    assert world.to["limits"] == [first], "during a stop it goes back to the broker"


def test_each_message_is_logged_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        World().receive(header())
        assert not caplog.records
        World(verbose=True).receive(header("a", argsrepr="(1,)"))
    (record,) = caplog.records
    assert record.getMessage() == "Task early[a] received"
    assert record.data["args"] == "(1,)"  # type: ignore[attr-defined]


def test_a_header_that_cannot_be_read_is_left_to_the_child() -> None:
    world = World(verbose=True)
    world.guard.watching = True
    delivery = world.receive(b"\x00\x3c\x00\x00" + bytes(8) + b"\xff\xff")
    assert delivery.state is State.READY
    assert len(world.went()) == 1


# -- the end of a session, and of one consumer ---------------------------------------------------------------


def test_a_lost_session_drops_what_no_child_has_begun(world: World, caplog: pytest.LogCaptureFixture) -> None:
    waiting, held, acked, running = (
        world.receive(header("a")),
        world.receive(header("b", eta=at(60))),
        world.receive(header("c")),
        world.receive(header("d")),
    )
    world.to["dispatcher"].remove(running)
    running.state = State.STARTED
    acked.acked = True
    world.intake.on_session_lost(2, "another")
    assert len(world.ledger) == 4
    world.intake.on_session_lost(1, "gone")
    assert (waiting.state, held.state) == (State.VOID, State.VOID)
    assert (acked.state, world.in_rings, world.pumped) == (State.READY, [acked], 1), "only this worker has it"
    assert world.watched == [acked, running]
    assert len(world.ledger) == 0
    assert "Session 1 lost with 4 unsettled messages; 2 of them" in caplog.text
    caplog.clear()
    world.intake.on_session_up(2)
    world.intake.on_session_lost(2, "gone")
    assert not caplog.records
    assert world.in_rings == [acked]


def test_a_cancelled_consumer_takes_its_own_messages_with_it(world: World) -> None:
    waiting, other_queue, acked, leased, running, other_consumer = (
        world.receive(header()),
        world.receive(header(), queue="other"),
        world.receive(header()),
        world.receive(header()),
        world.receive(header()),
        world.receive(header()),
    )
    acked.acked = True
    leased.lease = "lease"
    world.ledger.leased = 1
    world.to["dispatcher"].remove(running)
    running.state = State.STARTED
    found = parse_deliver(other_consumer.deliver)
    other_consumer.deliver = other_consumer.deliver.replace(found.consumer_tag.encode(), b"d", 1)
    tag = parse_deliver(waiting.deliver).consumer_tag
    assert world.intake.on_consumer_cancelled(2, QUEUE, tag) == []
    assert sorted(world.intake.on_consumer_cancelled(1, QUEUE, tag)) == [waiting.tag, running.tag]
    assert waiting.state is State.VOID
    assert world.watched == [running]
    assert set(world.ledger) == {other_queue, acked, leased, other_consumer}
    assert set(world.in_rings) == {other_queue, acked, leased, other_consumer}, "they wait on, each once"
    assert world.intake.on_consumer_cancelled(1, "lease", "any") == [leased.tag]
    assert leased.state is State.VOID


def test_lease_copies_go_to_the_leases(world: World) -> None:
    world.intake.on_lease_copies(1, [(1, deliver_args(1, False), header(), BODY)])
    assert world.taken == [(1, 1)]
    assert len(world.ledger) == 0
