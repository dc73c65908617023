"""What is held while its queue is paused, and in which order it is taken in again."""

from __future__ import annotations

import pytest

from turbo.master.delivery.ledger import Delivery
from turbo.master.delivery.paused_queues import PausedQueues
from turbo.policy.delivery_lifecycle import State


def delivery(tag: int, queue: str = "q") -> Delivery:
    return Delivery(1, queue, tag, b"", b"", b"")


@pytest.mark.row("RC28")
def test_messages_are_held_in_their_order_until_the_queue_is_resumed() -> None:
    paused = PausedQueues()
    assert "q" not in paused.names and not paused.resume("q") and not paused.take_out({delivery(1)})
    paused.pause("q")
    first, due, suspect, gone = (delivery(tag) for tag in range(1, 5))
    due.move(State.HELD)
    due.due = 5.0
    suspect.move(State.SUSPECT)
    suspect.waits_as = State.SUSPECT
    for each in (first, due, suspect, gone):
        paused.hold(each, told=each is not gone)
    assert ("q" in paused.names, len(paused), list(paused)) == (True, 4, [first, due, suspect, gone])
    assert {each.state for each in paused} == {State.HELD} and due.due == 0.0, "it is not scheduled, it is reserved"
    paused.pause("q")
    assert len(paused) == 4, "it was paused before"
    gone.move(State.VOID)
    assert paused.resume("q") == [(first, True), (due, True), (suspect, True)]
    assert [each.state for each in (first, due, suspect)] == [State.READY, State.READY, State.SUSPECT]
    assert "q" not in paused.names and not len(paused)


def test_what_is_revoked_or_lost_leaves() -> None:
    paused = PausedQueues()
    paused.pause("q")
    paused.pause("other")
    here = [delivery(tag, queue) for tag, queue in ((1, "q"), (2, "other"), (3, "q"))]
    for each in here:
        paused.hold(each, told=False)
    assert paused.take_out({here[1], delivery(9)}) == [here[1]]
    assert paused.withdraw() == [here[0], here[2]]
    assert not len(paused) and "q" in paused.names and "other" in paused.names, "a lost session does not end a pause"


def test_leases_of_held_messages_are_counted() -> None:
    paused = PausedQueues()
    paused.pause("q")
    here = [delivery(tag) for tag in range(4)]
    for each in here:
        paused.hold(each, told=False)
    here[0].lease = here[1].lease = "leases"
    assert paused.leased({here[2]}, {here[1]}) == 2
